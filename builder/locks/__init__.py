"""What was decided: the lock, and the file formats that people keep it in."""
