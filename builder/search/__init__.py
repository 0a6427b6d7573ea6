"""Which packages the channels have: an index on disk for each channel, and searches over them."""
