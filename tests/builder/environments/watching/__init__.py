"""Files that are watched."""
