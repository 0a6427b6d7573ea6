"""What somebody may have meant by a name that there is not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

MOST_CHARACTERS = 64
"""Of a name that is compared: a longer one is taken by its beginning."""
MUCH = 0.1
"""Of likeness, which is between 0 and 1."""


def find_near(name: str, known: Iterable[str], *, most: int = 2, cutoff: float = 0.6) -> list[str]:
    """Those of `known` that are most like `name`, the likeliest first: several only where none is much likelier.

    Two neighbouring characters that changed places are the commonest slip: if that explains it, nothing else is meant.
    """
    name, known = name[:MOST_CHARACTERS], list(known)
    swapped = {name[:index] + name[index : index + 2][::-1] + name[index + 2 :] for index in range(len(name) - 1)}
    if meant := [each for each in known if each in swapped and each != name]:
        return meant
    near = difflib.get_close_matches(name, known, n=most, cutoff=cutoff)
    return [each for each in near if _likeness(name, each) >= _likeness(name, near[0]) - MUCH]


def _likeness(name: str, other: str) -> float:
    """As `difflib.get_close_matches` has it."""
    return difflib.SequenceMatcher(None, other, name).ratio()


def did_you_mean(near: Sequence[str]) -> str:
    """The end of a sentence about a name that there is not; empty if none is near."""
    return f"; did you mean {' or '.join(near)}?" if near else ""
