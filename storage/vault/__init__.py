"""Secrets at rest: texts in the database that only somebody with a key from the settings can read."""
