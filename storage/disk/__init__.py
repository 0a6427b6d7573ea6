"""Files on a disk: atomic writes, privacy, and room reserved for deletions."""
