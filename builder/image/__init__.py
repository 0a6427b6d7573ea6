"""From layers to an image: its last layer, its documents, and what it is known as."""
