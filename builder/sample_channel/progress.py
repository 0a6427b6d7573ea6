"""The progress of making a channel, for whoever watches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Step:
    """`done` of `total` items of a stage, 0 of 0 while the number is unknown; `detail` names the one just done."""

    stage: Literal["wheels", "packages", "index"]
    done: int
    total: int
    detail: str = ""


Progress = Callable[[Step], None]
"""Called from the thread that makes the channel. It must return at once and must not raise."""


def show_nothing(_step: Step) -> None:
    """A Progress that shows nothing."""
