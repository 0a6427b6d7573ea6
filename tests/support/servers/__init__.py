"""Other servers, and peers that misbehave."""
