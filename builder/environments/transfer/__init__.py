"""Environments with their history as OCI layouts: to another server, or as an archive for years."""
