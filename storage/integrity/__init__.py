"""Whether what is stored is whole, mending it, and a copy of it."""
