"""Repositories of other registries, spoken to from threads."""
