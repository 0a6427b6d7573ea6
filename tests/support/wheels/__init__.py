"""Wheels that tests make, and trees of installed ones."""
