"""Wheels as packages: what is in one, whether it may be there, and where it goes for a python."""
