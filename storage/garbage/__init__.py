"""What nothing needs any more: the rules, the garbage collection, and eviction from caches."""
