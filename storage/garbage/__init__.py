"""What nothing needs any more: the rules, the collection, and what is evicted."""
