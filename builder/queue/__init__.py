"""The queue of builds: what waits to be made, and what is told when it has ended."""
