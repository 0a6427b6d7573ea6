"""The channels' indexes, as the solver's process reads, keeps and checks them."""
