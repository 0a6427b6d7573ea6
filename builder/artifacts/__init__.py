"""The files beside an image: lock files, and the environment as an archive."""
