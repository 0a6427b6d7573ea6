"""Reading and writing package archives and their tar members."""
