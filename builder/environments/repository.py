"""Where an environment's images are: its name in the grammar of image names."""

from __future__ import annotations

import re

_OUTSIDE = re.compile(r"[^a-z0-9._-]+")
_RUNS = re.compile(r"([._-])[._-]*")


def write_repository(namespace: str, name: str) -> str:
    """The repository of an environment's images: `namespace/name`; empty if nothing of the name is left.

    Capitals become small, and characters that image names cannot have become `-`.
    """
    part = _RUNS.sub(r"\1", _OUTSIDE.sub("-", name.lower())).strip("._-")
    return f"{namespace}/{part}" if part else ""
