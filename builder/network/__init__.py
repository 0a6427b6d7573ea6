"""The way out: which addresses others may send us to, and who is asked for them."""
