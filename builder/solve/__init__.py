"""From a spec to a lock: the solver, its process, and what they agree on."""
