"""What an archive says of itself, and archives that a lock calls something else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from builder.archives.archive import DEFAULT_LIMITS
from builder.errors import PackageRefused
from builder.locks.lock import LockedPackage
from builder.packages.own_record import complete
from tests.support.builder.packages import Package

PYTHON = Package(
    "python",
    "3.13.1",
    files={"bin/python": b"x"},
    depends=("libffi >=3",),
    python_site_packages_path="lib/python3.13t/site-packages",
)


def bare(package: LockedPackage) -> LockedPackage:
    """As a list of addresses and hashes has it."""
    return replace(
        package,
        build_number=0,
        size=None,
        depends=(),
        constrains=(),
        license=None,
        timestamp=None,
        noarch=None,
        python_site_packages_path=None,
    )


@pytest.mark.parametrize("form", ["conda", "tar_bz2"])
def test_what_is_missing_is_filled_in(tmp_path: Path, form: str) -> None:
    made = getattr(PYTHON, form)(tmp_path)
    found = complete(bare(made.record), made.path, DEFAULT_LIMITS)
    assert found.depends == ("libffi >=3",)
    assert found.python_site_packages_path == "lib/python3.13t/site-packages"
    assert found.size == made.path.stat().st_size
    assert (found.sha256, found.url, str(found)) == (made.record.sha256, made.record.url, "python-3.13.1-0")


def test_claims_of_the_lock_are_replaced(tmp_path: Path) -> None:
    made = PYTHON.conda(tmp_path)
    claimed = replace(made.record, license="MIT", depends=("nothing",), timestamp=5, noarch="python")
    found = complete(claimed, made.path, DEFAULT_LIMITS)
    assert (found.license, found.depends, found.noarch) == (made.record.license, ("libffi >=3",), None)
    assert found.timestamp != 5


def test_an_archive_under_another_name(tmp_path: Path) -> None:
    made = PYTHON.conda(tmp_path)
    for fields in ({"name": "good"}, {"version": "1.0"}, {"build": "h0_0"}):
        with pytest.raises(PackageRefused, match="the archive that its lock names says "):
            complete(replace(made.record, **fields), made.path, DEFAULT_LIMITS)  # type: ignore[arg-type]


def test_an_archive_of_another_hash(tmp_path: Path) -> None:
    made = PYTHON.conda(tmp_path)
    with pytest.raises(PackageRefused, match="the archive has sha256"):
        complete(replace(made.record, sha256="0" * 64), made.path, DEFAULT_LIMITS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depends": "x"}, "has depends that are not a list"),
        ({"constrains": [1]}, "has constrains that are not match specs"),
        ({"license": ["MIT"]}, "has a license that is not a short text"),
        ({"timestamp": -1}, "has a timestamp that is not a number"),
        ({"build_number": "1"}, "has a build_number that is not a number"),
        ({"python_site_packages_path": "../x"}, "'../x', its place of site-packages, is not a path under the prefix"),
    ],
)
def test_an_index_that_makes_no_sense(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    index = {"name": "odd", "version": "1.0", "build": "0"} | fields
    made = Package("odd", files={"x": b"x"}, info={"index.json": orjson.dumps(index)}).conda(tmp_path)
    with pytest.raises(PackageRefused, match=message):
        complete(bare(made.record), made.path, DEFAULT_LIMITS)
