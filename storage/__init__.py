"""Bytes and facts at rest: blob stores, and the database's tables with their migrations."""
