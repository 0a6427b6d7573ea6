"""Named environments: what was written down, what was built of it, and which build is the current one."""
