"""Limits on what a repository may hold, the room left under them, and bytes that are still arriving."""
