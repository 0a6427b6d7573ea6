"""Measured comparisons with named peers, each in the same run. Never run by the tests: `make bench`."""
