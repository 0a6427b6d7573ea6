"""How work is shared: in turns, once for all who wait, and among worker processes."""
