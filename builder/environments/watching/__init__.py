"""Files on this machine that say what environments there are, built when they change."""
