"""Wheels of locks that somebody sent: what counts is what they say themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.archives.archive import DEFAULT_LIMITS
from builder.errors import PackageRefused
from builder.pypi.own_metadata import complete_wheels
from tests.support.wheels.making import Wheel

METADATA = b"""Metadata-Version: 2.4
Name: Sample
Version: 1.0
License-Expression: MIT
Requires-Python: >=3.9
Requires-Dist: requests>=2
Requires-Dist: rich; extra == "color"
"""


def test_a_wheel_says_what_it_is(tmp_path: Path) -> None:
    made = Wheel(information={"METADATA": METADATA}).write(tmp_path)
    sent = replace(made.record, depends=("evil",), license="proprietary", timestamp=1, requires_python=None)
    (found,) = complete_wheels([sent], [made.path], DEFAULT_LIMITS)
    assert found == replace(
        made.record,
        depends=("requests>=2", 'rich; extra == "color"'),
        license="MIT",
        timestamp=None,
        requires_python=">=3.9",
    )


def test_a_wheel_that_is_another_is_refused(tmp_path: Path) -> None:
    made = Wheel().write(tmp_path)
    lies: dict[str, Any] = {
        "name": "pypi:other",
        "version": "2.0",
        "build": "cp311-cp311-linux_x86_64",
        "sha256": "0" * 64,
    }
    for field, lie in lies.items():
        with pytest.raises(PackageRefused, match=r"other|2\.0|another version|other tags|but its channel's record"):
            complete_wheels([replace(made.record, **{field: lie})], [made.path], DEFAULT_LIMITS)
