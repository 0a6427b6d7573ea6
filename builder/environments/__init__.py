"""Environments as things with a life."""
