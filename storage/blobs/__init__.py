"""Content-addressed bytes over objects, and the lists of fragments that some of them are."""
