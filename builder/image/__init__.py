"""From layers to an image: its last layer, its documents, and the names and forms under which it is served."""
