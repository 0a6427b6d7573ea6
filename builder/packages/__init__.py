"""What a package contains: its listing, its paths, its prefix, and its record once it is installed."""
