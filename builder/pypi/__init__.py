"""PyPI packages over the conda packages of a lock: solved by uv, which asks a gateway here instead of indexes."""
