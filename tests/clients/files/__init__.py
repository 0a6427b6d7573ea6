"""The files beside images, with the programs that fetch, read and install them."""
