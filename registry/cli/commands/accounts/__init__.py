"""The commands that say who may do what. They work on the store itself, so whoever may read it is its administrator."""
