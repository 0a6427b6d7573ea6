"""Named environments in the REST API."""
