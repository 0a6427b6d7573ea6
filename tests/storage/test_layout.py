"""The data directory is drawn once: the drawing is true, and nobody else spells its names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from storage import layout
from storage.layout import DataDirectory

ROOT = Path(layout.__file__).parents[1]
MODULES = [path for name in ("registry", "builder", "auth", "storage") for path in (ROOT / name).rglob("*.py")]
DATA = DataDirectory(Path("/data"))
NAMES = {path.name for name in dir(DATA) if isinstance(path := getattr(DATA, name), Path) and path.parent == DATA.root}
"""Of everything in the data directory itself."""

OTHER_MEANINGS = {
    ("registry/api/environments/builds.py", "packages"): "a parameter of a list",
    ("registry/api/environments/environments.py", "packages"): "a parameter of a list",
    ("registry/api/environments/environments.py", "search"): "a parameter of a list",
    ("registry/api/packages.py", "search"): "a parameter of a list",
    ("registry/api/environments/packages.py", "search"): "a parameter of a list",
    ("builder/environments/transfer/document.py", "bases"): "a field of an exported image",
    ("builder/environments/transfer/lock_document.py", "packages"): "a field of a lock",
    ("builder/names/requirement.py", "pypi"): "what stands for a channel in names",
    ("registry/mirror/names.py", "mirror"): "the first part of a repository's name",
    ("storage/blobs/layers.py", "fragments"): "a lock of the database",
    ("storage/oci.py", "mirror"): "the first part of a repository's name",
}

JOINING = {"Path", "joinpath", "with_name"}


def test_the_drawing_has_everything_and_nothing_else() -> None:
    assert layout.__doc__
    drawn = {name.rstrip("/") for name in re.findall(r"^    (\S+)", layout.__doc__, re.MULTILINE)}
    assert drawn == NAMES


def test_administrators_read_of_everything() -> None:
    rows = re.findall(r"^\| `(\S+?)/?` ", (ROOT / "docs" / "operation.md").read_text(), re.MULTILINE)
    assert set(rows) >= NAMES


def spelled(tree: ast.Module) -> Iterator[str]:
    """The strings that a module joins to paths, and those that it gives names of its own."""
    for node in ast.walk(tree):
        match node:
            case ast.BinOp(op=ast.Div()):
                yield from _texts([node.left, node.right])
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in JOINING:
                yield from _texts(node.args)
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value:
            value = statement.value
            values = value.elts if isinstance(value, ast.Tuple | ast.List | ast.Set) else [value]
            # whole: a part of a longer one may be of a URL
            yield from (each.value for each in values if isinstance(each, ast.Constant) and isinstance(each.value, str))


def _texts(nodes: Iterable[ast.expr]) -> Iterator[str]:
    for node in nodes:
        match node:
            case ast.Constant(value=str(text)):
                yield from text.split("/")
            case ast.JoinedStr(values=values):
                yield from _texts(values)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_other_module_spells_the_names(path: Path) -> None:
    module = path.relative_to(ROOT).as_posix()
    found = NAMES.intersection(spelled(ast.parse(path.read_text()))) if path != Path(layout.__file__) else set()
    assert {name for name in found if (module, name) not in OTHER_MEANINGS} == set()


def test_spelling_is_seen() -> None:
    source = """
FRAGMENTS = "fragments"
FOLDERS = ("contents", FRAGMENTS)
KINDS = {"mirror": 1}
def f(root):
    root.joinpath("bases", "x").with_name("reserve")
    return root / "blobs/sha256" / f"archives/{root}", {"working": Path("repodata")}
"""
    found = NAMES.intersection(spelled(ast.parse(source)))
    assert found == {"fragments", "contents", "bases", "reserve", "blobs", "archives", "repodata"}
