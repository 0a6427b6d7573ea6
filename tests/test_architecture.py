"""The direction of imports between packages and between their rooms, the size of rooms, and who alone may use what."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.rooms import ORDER, PACKAGES, ROOT

MAY_IMPORT = {
    "registry": {"registry", "builder", "auth", "storage"},
    "builder": {"builder", "storage"},
    "auth": {"auth", "storage"},
    "storage": {"storage"},
}

MOST_MODULES = 16
"""In one folder: more are not found at a glance. Where one more is needed, there is a room to be made."""

GROWING = ("storage/database/migrations/versions",)
"""Folders that nobody looks through: a module comes with every release, and stays."""

ROOMS_OF_TESTS = {"registry": {"faults"}}
"""Folders of tests that are not about one room."""

SHARED_BY_TESTS = ("tests/support", "tests/conformance")
"""What tests of every room may use: support, and the conformance suite, which is a program of its own."""

RATTLER_USERS = ("builder/solve/", "builder/sample_channel/")
CODEC = "builder/layers/codec.py"
ZIP = "builder/packages/wheels/zip_archive.py"
"""Expands what others compressed, which no layer's bytes depend on."""
READS_ENVIRONMENT = "registry/settings/"


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@cache
def modules_imported(path: Path) -> tuple[str, ...]:
    """Every module that is imported, those of `if TYPE_CHECKING:` and of functions included."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            assert node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def environment_reads(path: Path) -> Iterator[int]:
    """Lines that name `os.environ` or `os.getenv`, whichever way they are imported."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        names = (
            [node.attr]
            if isinstance(node, ast.Attribute)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom) and node.module == "os"
            else []
        )
        if {"environ", "environb", "getenv", "getenvb"} & set(names):
            yield getattr(node, "lineno", 0)


def room_of(path: Path) -> str:
    """The room that a module of a package is in, or its own name where it is in none."""
    return path.relative_to(ROOT).with_suffix("").parts[1]


def against_the_order(order: list[str], room: str, package: str, imported: Iterable[str]) -> list[str]:
    """Those of the modules `imported` by one in `room` that are not in rooms after it."""
    parts = [module.split(".") for module in imported if is_or_is_in(module, package)]
    later = order[order.index(room) :]
    return [".".join(names) for names in parts if len(names) > 1 and names[1] not in later]


def is_or_is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


ALL = [(package, path) for package in PACKAGES for path in sources(package)]


@pytest.mark.parametrize(("package", "path"), ALL, ids=lambda value: str(value).removeprefix(f"{ROOT}/"))
class TestEveryModule:
    def test_imports_only_what_is_below_it(self, package: str, path: Path) -> None:
        ours = {module.partition(".")[0] for module in modules_imported(path)} & set(PACKAGES)
        assert ours <= MAY_IMPORT[package]

    def test_imports_nothing_against_the_order_of_rooms(self, package: str, path: Path) -> None:
        if path.parent != ROOT / package or path.name != "__init__.py":
            assert against_the_order(ORDER[package], room_of(path), package, modules_imported(path)) == []

    def test_uses_rattler_and_the_http_server_only_where_they_belong(self, package: str, path: Path) -> None:
        name = path.relative_to(ROOT).as_posix()
        imported = list(modules_imported(path))
        if not name.startswith(RATTLER_USERS):
            assert [module for module in imported if is_or_is_in(module, "rattler")] == []
        if package != "registry":
            assert [module for module in imported if is_or_is_in(module, "aiohttp.web")] == []

    def test_only_the_codec_knows_what_layers_are_compressed_with(self, package: str, path: Path) -> None:
        if path.relative_to(ROOT).as_posix() not in (CODEC, ZIP):
            assert [module for module in modules_imported(path) if is_or_is_in(module, "isal")] == []

    def test_only_the_service_knows_the_demand(self, package: str, path: Path) -> None:
        if package == "builder" and room_of(path) not in ("demand", "service"):
            assert [module for module in modules_imported(path) if is_or_is_in(module, "builder.demand")] == []

    def test_reads_no_environment_variable_outside_the_settings(self, package: str, path: Path) -> None:
        if not path.relative_to(ROOT).as_posix().startswith(READS_ENVIRONMENT):
            assert list(environment_reads(path)) == []

    def test_imports_no_tests_and_no_measurements(self, package: str, path: Path) -> None:
        assert [module for module in modules_imported(path) if is_or_is_in(module, "tests")] == []
        assert [module for module in modules_imported(path) if is_or_is_in(module, "bench")] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_has_its_place_in_the_order(package: str) -> None:
    rooms = {room_of(path) for path in sources(package)} - {"__init__"}
    assert sorted(rooms) == sorted(ORDER[package])


@pytest.mark.parametrize("package", PACKAGES)
def test_tests_are_laid_out_like_what_they_test(package: str) -> None:
    folders = {path.parent.name for path in (ROOT / "tests" / package).glob("*/*.py")}
    assert folders <= {room for room in ORDER[package] if (ROOT / package / room).is_dir()} | ROOMS_OF_TESTS.get(
        package, set()
    )


def folder_of(module: str) -> Path:
    """Where a module is, of which `module` is the name or the name of something in it."""
    path = ROOT.joinpath(*module.split("."))
    while not path.with_suffix(".py").is_file() and not path.is_dir():
        path = path.parent
    return path if path.is_dir() else path.parent


@pytest.mark.parametrize(
    "path",
    [path for top in ("tests", "bench") for path in sources(top)],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_what_tests_of_two_rooms_use_is_support(path: Path) -> None:
    for folder in {folder_of(module) for module in modules_imported(path) if is_or_is_in(module, "tests")}:
        shared = any(folder.is_relative_to(ROOT / each) for each in SHARED_BY_TESTS)
        assert shared or folder == path.parent, f"{folder} is another room: move what it shares to tests/support"


@pytest.mark.parametrize("path", sources("tests"), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_two_modules_of_tests_use_is_in_neither(path: Path) -> None:
    imported = {module for module in modules_imported(path) if is_or_is_in(module, "tests")}
    assert [module for module in imported if any(part.startswith("test_") for part in module.split(".")[:-1])] == []


@pytest.mark.parametrize("top", [*PACKAGES, "tests", "bench"])
def test_no_folder_has_too_many_modules(top: str) -> None:
    folders = Counter(path.parent.relative_to(ROOT).as_posix() for path in sources(top) if path.name != "__init__.py")
    assert {name: count for name, count in folders.items() if count > MOST_MODULES and name not in GROWING} == {}


def test_the_rules_above_catch_what_they_forbid(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "import os\nfrom os import environ\nfrom aiohttp import web\nimport rattler.index\n"
        "def f():\n    from registry import app\n    return os.environ, os.getenv('A')\n"
    )
    assert set(modules_imported(path)) == {"os", "os.environ", "aiohttp.web", "rattler.index", "registry.app"}
    assert sorted(environment_reads(path)) == [2, 7, 7]
    assert is_or_is_in("rattler.index", "rattler")
    assert not is_or_is_in("rattlers", "rattler")
    order = ["app", "v2", "errors"]
    found = [
        "registry.v2.lists.f",
        "registry.errors",
        "registry.app",
        "registry.odd.x",
        "registryful.app",
        "aiohttp.web",
    ]
    assert against_the_order(order, "v2", "registry", found) == ["registry.app", "registry.odd.x"]
    assert room_of(ROOT / "registry/v2/lists.py") == "v2"
    assert room_of(ROOT / "registry/app.py") == "app"


def test_everything_imported_is_a_dependency() -> None:
    """What comes along with something else today may not tomorrow."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    provided = metadata.packages_distributions()
    tops = {module.partition(".")[0] for _, path in ALL for module in modules_imported(path)}
    foreign = tops - sys.stdlib_module_names - set(PACKAGES)
    assert foreign
    assert [top for top in foreign if not declared & {canonicalize_name(name) for name in provided.get(top, ())}] == []
