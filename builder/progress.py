"""The progress of a build, for whoever watches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Stage = Literal["solve", "download", "inspect", "layers", "image"]


@dataclass(frozen=True, slots=True)
class Event:
    """`done` of `total` units of a stage; `detail` names the one just done.

    Units are bytes for downloads, else items.
    """

    stage: Stage
    done: int
    total: int
    detail: str = ""


Progress = Callable[[Event], None]
"""Called on the event loop. It must return at once and must not raise."""


def show_nothing(_event: Event) -> None:
    """A Progress that shows nothing."""
