"""Files on a disk: written whole, kept private, and with room left for deletions."""
