"""File names of wheels (PEP 427), read within bounds."""

from __future__ import annotations

import math

from packaging.tags import Tag
from packaging.utils import BuildTag, InvalidWheelFilename, NormalizedName, parse_wheel_filename
from packaging.version import Version

LONGEST = 255
MOST_TAGS = 500
"""Tags that one name may stand for. Real ones have some twenty; a name of 250 characters could have 20,000."""


def parse_wheel_name(file_name: str) -> tuple[NormalizedName, Version, BuildTag, frozenset[Tag]]:
    """Return the distribution's name (PEP 503), version, build and tags. Raises InvalidWheelFilename.

    The last three parts are sets of tags, of which every combination is one, so they are counted first.
    """
    if len(file_name) > LONGEST:
        raise InvalidWheelFilename(f"it has {len(file_name)} characters; at most {LONGEST} are allowed")
    parts = file_name.removesuffix(".whl").rsplit("-", 3)[1:]
    if math.prod(part.count(".") + 1 for part in parts) > MOST_TAGS:
        raise InvalidWheelFilename(f"it stands for more than {MOST_TAGS} tags")
    try:
        return parse_wheel_filename(file_name)
    except ValueError as error:
        raise InvalidWheelFilename(str(error)[:200]) from None
