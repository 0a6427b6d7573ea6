"""Log lines: their format, where they go, and one for each request."""
