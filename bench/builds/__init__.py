"""Builds, archives, and pulls of built images."""
