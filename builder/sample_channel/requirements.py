"""A wheel's requirements in conda's terms: names and version constraints."""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from packaging.requirements import Requirement
from packaging.specifiers import Specifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

_UNDERSCORED = (
    "importlib_metadata",
    "jupyter_client",
    "jupyter_core",
    "jupyter_events",
    "jupyter_server",
    "jupyter_server_terminals",
    "jupyterlab_server",
)

# matplotlib-base and the like: people and packages ask for matplotlib, which conda-forge splits and this channel does
# not
_PARTS = ("-base", "-core", "-split")


@functools.cache
def _load_names() -> Mapping[str, str]:
    """Map PyPI names to conda-forge names that differ by more than PEP 503, from whl2conda's table."""
    # whl2conda's own loader copies the table into the user's cache and prefers that copy, so results would differ by
    # machine
    text = (importlib.resources.files("whl2conda.api") / "stdrename.json").read_text()
    table: dict[str, str] = {
        canonicalize_name(name): conda_name
        for name, conda_name in json.loads(text).items()
        if not name.startswith("$") and not conda_name.endswith(_PARTS)
    }
    table |= {canonicalize_name(name): name for name in _UNDERSCORED}
    # conda's `tzdata` is the system's database; the importable package has a name of its own
    table["tzdata"] = "python-tzdata"
    return MappingProxyType(table)


def find_conda_name(name: str) -> str:
    """Return the conda package for PyPI's `name`: conda-forge's name if it is known, else the PEP 503 name."""
    canonical = canonicalize_name(name)
    return _load_names().get(canonical, canonical)


def write_match_spec(requirement: Requirement) -> str:
    """Write the match spec `name constraint` for a requirement. The caller handles extras and marker."""
    constraint = write_constraint(requirement.specifier)
    return f"{find_conda_name(requirement.name)} {constraint}".rstrip()


def write_constraint(specifiers: SpecifierSet) -> str:
    """Write PEP 440 specifiers as a conda version constraint (`>=1.2,<2.0a0`); empty for any version."""
    return ",".join(part for specifier in _order(specifiers) for part in _translate(specifier))


def write_version(version: Version) -> str:
    """Write a version for conda: PEP 440's normal form is unchanged, except that conda allows no hyphen."""
    return str(version).replace("-", "_")


def _order(specifiers: Iterable[Specifier]) -> list[Specifier]:
    rank = {"===": 0, "==": 0, "~=": 1, ">=": 1, ">": 1, "<": 2, "<=": 2, "!=": 3}
    return sorted(specifiers, key=lambda specifier: (rank[specifier.operator], specifier.version))


def _translate(specifier: Specifier) -> list[str]:
    operator, version = specifier.operator, specifier.version
    if version.endswith(".*"):
        return [version if operator == "==" else f"!={version}"]
    if operator == "===":
        return [f"=={version}"]
    if operator == "~=":
        series = Version(version).release[:-1]
        return [f">={version}", ".".join(map(str, series)) + ".*"]
    if operator == "<" and not Version(version).is_prerelease:
        # PEP 440's `<2` excludes 2rc1, which conda sorts before 2
        return [f"<{version}a0" if "." in version else f"<{version}.0a0"]
    return [f"{operator}{version}"]
