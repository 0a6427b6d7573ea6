"""Named environments: what was written down, what was built of it, which build is current, and what builds log."""
