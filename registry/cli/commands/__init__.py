"""The commands of `condery`, one module each."""
