"""The database: its engine, its tables and their migrations, and what only one process does."""
