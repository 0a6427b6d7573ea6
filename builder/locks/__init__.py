"""What was decided: the lock, and the files that people keep it in."""
