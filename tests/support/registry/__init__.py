"""Condery's HTTP side in the test's own process, and requests to it."""
