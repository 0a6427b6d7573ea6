"""The queue of builds: which builds wait and run, and what is announced when they end."""
