"""`condery env`, and what `condery build` does with builds of environments."""
