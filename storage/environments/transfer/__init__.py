"""Environments that were exported elsewhere."""
