"""The commands of `condery`, a module each."""
