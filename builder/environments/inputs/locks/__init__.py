"""Locks that somebody else wrote: conda-lock.yml, pixi.lock, explicit lists, pylock.toml, and what they share."""
