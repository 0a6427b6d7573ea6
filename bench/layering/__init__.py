"""What plans of layers are worth on real environments."""
