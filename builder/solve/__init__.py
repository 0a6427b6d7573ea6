"""From a spec to a lock: the solver, its process, and the repodata that it reads."""
