"""Package archives and the tar members they are made of, read and written."""
