"""Measured comparisons with named peers, each in the same run: `make bench`. The tests never run them."""
