"""Who asks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Principal:
    """A user, a service, or anybody: what permissions are granted to and what the log names."""

    name: str


ANONYMOUS = Principal("anonymous")
"""Whoever did not say who they are."""
