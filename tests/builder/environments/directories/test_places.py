"""Names that people chose, as names of directories."""

from __future__ import annotations

import string
from pathlib import Path

import pytest

from builder.environments.directories.places import Place, encode_name
from builder.errors import DirectoryUnsuitable

ALLOWED = string.ascii_letters + string.digits + "+_@$&?^~.=-"


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("analysis", "analysis"),
        ("py3.11_env-2+cuda@lab", "py3.11_env-2+cuda@lab"),
        (".", "=2E"),
        ("..", "=2E."),
        (".part-0", "=2Epart-0"),
        ("-rf", "=2Drf"),
        ("~root", "=7Eroot"),
        ("a$HOME&b?c^d=e", "a=24HOME=26b=3Fc=5Ed=3De"),
        ("=2E", "=3D2E"),
    ],
)
def test_encoded(name: str, encoded: str) -> None:
    assert encode_name(name) == encoded


def test_no_two_names_are_one_directory_and_none_leads_elsewhere() -> None:
    names = [*ALLOWED, *(a + b for a in ALLOWED for b in ALLOWED), *("=2" + a for a in ALLOWED)]
    encoded = {name: encode_name(name) for name in names}
    assert len(set(encoded.values())) == len(set(names))
    assert not any(each.startswith((".", "-", "~")) or set(each) - set(ALLOWED) for each in encoded.values())


@pytest.mark.parametrize("name", ["", "a/b", "a\0b", "a b", "ünï", "a\nb", "$" * 100])
def test_refused(name: str) -> None:
    with pytest.raises(DirectoryUnsuitable, match="cannot be on disk"):
        encode_name(name)


@pytest.mark.parametrize("build", ["", "1-2", "../x", "a/b", ".", "x y"])
def test_builds_that_are_refused(build: str) -> None:
    with pytest.raises(DirectoryUnsuitable):
        Place(Path("/srv"), "team", "analysis").directory(build)


def test_a_build_is_found_by_its_directory() -> None:
    place = Place(Path("/srv"), "team", "a-1")
    assert place.directory("2") == Path("/srv/team/a-1-2")
    assert place.read_build("a-1-2") == "2"
    assert Place(Path("/srv"), "team", "a").read_build("a-1-2") is None
    assert place.read_build("envs") is None
    assert place.link == Path("/srv/team/envs/a-1")


def test_a_name_that_fits_with_no_build() -> None:
    place = Place(Path("/srv"), "team", "a" * 250)
    assert place.directory("1234").name.endswith("-1234")
    with pytest.raises(DirectoryUnsuitable, match="too long"):
        place.directory("12345")
