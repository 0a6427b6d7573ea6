"""What a repository may hold: limits, the room under them, and what is on its way in."""
