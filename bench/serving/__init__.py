"""Condery and other registries under load."""
