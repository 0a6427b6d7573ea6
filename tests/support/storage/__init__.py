"""Stores of every kind, and content for them."""
