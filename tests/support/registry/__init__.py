"""Condery's HTTP side in the test's own process, and what is asked of it."""
