"""Facts of the builder: locks, images, files and builds."""
