"""OCI's texts: the grammar of names, and that nobody else spells them."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage import oci

ROOT = Path(oci.__file__).parents[1]
MODULES = [path for name in ("registry", "builder", "auth", "storage") for path in (ROOT / name).rglob("*.py")]
SPELLINGS = ("application/vnd.oci.", "application/vnd.docker.", oci.REPOSITORY_PART.pattern, oci.TAG.pattern)
OTHERS = {"registry/webhooks/events.py": "the media type of docker's notifications, which no image has"}


@pytest.mark.parametrize(
    ("name", "follows"),
    [
        ("a", True),
        ("team/a-b__c.d---e", True),
        ("a" * 1000, True),
        ("", False),
        ("a//b", False),
        ("/a", False),
        ("a/", False),
        ("A", False),
        ("a___b", False),
        ("a..b", False),
        ("-a", False),
        ("a\n", False),
        ("a/b\n", False),
    ],
)
def test_the_grammar_of_repositories(name: str, follows: bool) -> None:
    assert oci.is_repository(name) is follows


def test_layers_and_manifests_are_in_every_table() -> None:
    assert [oci.OCI_LAYER_OF[oci.DOCKER_LAYER_OF[each]] for each in oci.DOCKER_LAYER_OF] == list(oci.DOCKER_LAYER_OF)
    assert {*oci.INDEX_TYPES, *oci.IMAGE_TYPES} == set(oci.MANIFEST_TYPES)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_other_module_spells_them(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    if name != "storage/oci.py" and name not in OTHERS:
        text = path.read_text()
        assert [each for each in SPELLINGS if each in text] == []
