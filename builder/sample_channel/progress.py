"""What making a channel tells whoever watches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Step:
    """`done` of `total` things of a stage, 0 of 0 while the number is unknown; `detail` names the thing just done."""

    stage: Literal["wheels", "packages", "index"]
    done: int
    total: int
    detail: str = ""


Progress = Callable[[Step], None]
"""Called from the thread that makes the channel; must return at once and must not raise."""


def show_nothing(_step: Step) -> None:
    """A Progress for when nobody watches."""
