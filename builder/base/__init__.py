"""The base layer, below the packages of every image."""
