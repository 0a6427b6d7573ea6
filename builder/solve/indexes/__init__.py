"""What channels have, as the solver's process reads it: indexes, kept and checked."""
