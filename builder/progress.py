"""What a running build tells whoever watches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Stage = Literal["solve", "download", "inspect", "layers", "image"]


@dataclass(frozen=True, slots=True)
class Event:
    """`done` of `total` things of a stage; `detail` names the thing just done. Bytes for downloads, else a count."""

    stage: Stage
    done: int
    total: int
    detail: str = ""


Progress = Callable[[Event], None]
"""Called on the event loop; must return at once and must not raise."""


def show_nothing(_event: Event) -> None:
    """A Progress for when nobody watches."""
