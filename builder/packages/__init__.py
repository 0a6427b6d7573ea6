"""What a package holds: its listing, its paths, its prefix, and its record once installed."""
