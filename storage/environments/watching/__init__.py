"""Files that environments are read from, as far as the database knows them."""
