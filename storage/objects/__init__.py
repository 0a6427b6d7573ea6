"""Bytes under opaque keys: one protocol for files and S3."""
