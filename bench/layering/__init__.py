"""What layer plans are worth on real environments."""
