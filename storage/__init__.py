"""Bytes and facts at rest: blob stores, the catalog's tables and their migrations."""
