"""The base layer: what lies below the packages of every image."""
