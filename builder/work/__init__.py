"""How work is shared out: in turns, once for all who wait, and among worker processes."""
