"""Builds, archives and pulls of what was built."""
