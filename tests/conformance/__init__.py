"""The public conformance suite of the distribution specification, run against a server of its own."""
