"""Bytes under opaque keys: files and S3 behind one protocol."""
