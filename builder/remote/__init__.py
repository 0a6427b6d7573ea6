"""Clients of other registries' repositories, for use in threads."""
