"""The HTTP toolkit: reading paths, receiving bodies, sending content."""
