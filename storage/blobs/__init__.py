"""Content-addressed bytes in an object store, and blobs that are lists of fragments."""
