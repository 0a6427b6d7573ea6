"""Lines of logs: their form, where they go, and one for each request."""
