"""The variables of an environment: those that packages set, as conda's and rattler's activation read them, and those of
its spec.

Every file in `etc/conda/env_vars.d`, whatever its name, is a JSON object of variables. The files are read in the order
of their names, and a later one wins; `conda-meta/state` comes last. docs/fragments.md says which to follow where conda
and rattler differ. What cannot be used is skipped and reported; it never fails the image.

The spec's variables override those of packages. `conda-meta/state` holds them, with what a package wrote there.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import orjson

from builder.canonical import canonical_json
from builder.names.spec import EnvironmentSpec
from builder.packages.starting_files import STATE, StartingFile, list_some

LONGEST = (128 << 10) - 1
"""Bytes of `name=value` with which Linux starts a process (MAX_ARG_STRLEN, less its NUL)."""

TOGETHER = 1 << 20
"""Bytes of all variables. Linux allows 2 MiB of arguments and variables in all."""

_NO_NAME = re.compile(r"[\x00-\x1f\x7f=]|^$")
LINES = 50
"""Reasons that are listed one by one."""


@dataclass
class PackageVariables:
    """The variables from all files."""

    values: dict[str, str] = field(default_factory=dict)
    packages: set[str] = field(default_factory=set)
    """Packages with a file of which something was skipped."""
    _skipped: list[str] = field(default_factory=list)
    _more: int = 0
    _size: int = 0

    @property
    def skipped(self) -> list[str]:
        """A sentence for each thing that was skipped, up to LINES of them."""
        return [*self._skipped, *([f"and {self._more} more"] if self._more else [])]

    def list_warnings(self) -> list[str]:
        return [f"variables were skipped (see condery explain): {list_some(self.packages)}"] if self.packages else []

    def set(self, name: str, value: str) -> bool:
        """Set a variable. Returns False, and does nothing, if all variables would become longer than TOGETHER."""
        size = len(name.encode()) + len(value.encode()) + 2
        if self._size + size > TOGETHER:
            return False
        self._size += size
        self.values[name] = value
        return True

    def skip(self, file: StartingFile, reason: str) -> None:
        self.packages.add(file.package)
        if len(self._skipped) < LINES:
            self._skipped.append(f"{file.path} of {file.package} {reason}")
        else:
            self._more += 1


def read_variables(files: Iterable[StartingFile]) -> PackageVariables:
    """Read the variables from `files`, which are those in VARIABLES and STATE."""
    variables = PackageVariables()
    for file in sorted(files, key=lambda file: (file.path == STATE, file.path)):
        _add_file(variables, file)
    return variables


def _add_file(variables: PackageVariables, file: StartingFile) -> None:
    if file.content is None:
        variables.skip(file, file.problem)
        return
    try:
        document = orjson.loads(file.content)
    except orjson.JSONDecodeError as error:
        variables.skip(file, f"is not JSON: {error}")
        return
    if isinstance(document, dict) and file.path == STATE:
        document = document.get("env_vars", {})
    if not isinstance(document, dict):
        variables.skip(file, "has no JSON object of variables")
        return
    for name, value in document.items():
        if reason := _find_problem(name, value):
            variables.skip(file, f"sets {name[:100]!r}, {reason}")
        elif value is None:
            variables.values.pop(name, None)
        elif not variables.set(name, str(value)):
            variables.skip(file, f"sets {name[:100]!r}, but together they would be longer than {TOGETHER} bytes")


def _find_problem(name: str, value: object) -> str | None:
    """Return why this cannot be a variable, or None."""
    if not isinstance(value, str | int | float | None):
        return "whose value is neither a string nor a number"
    text = str(value)
    if _NO_NAME.search(name) or "\0" in text:
        return "which cannot be a variable's name or value"
    if len(name.encode()) + len(text.encode()) + 1 > LONGEST:
        return f"which is longer than the {LONGEST} bytes that Linux allows"
    return None


STATE_VERSION = 1
"""Of the format of `conda-meta/state` (conda core/prefix_data.py)."""

ACTIVATE = "etc/conda/activate.d/~condery-variables.sh"
DEACTIVATE = "etc/conda/deactivate.d/~condery-variables.sh"
"""Scripts for whoever activates an environment without reading its state, as conda-pack does. `~` sorts them last."""


def write_state(spec: EnvironmentSpec, packages: Iterable[StartingFile] = ()) -> bytes:
    """Write `conda-meta/state` with the variables of `spec`, over those of `packages` that have such a file.

    Only an environment whose spec has variables gets this file.
    """
    others = read_variables(file for file in packages if file.path == STATE).values
    return canonical_json({"version": STATE_VERSION, "env_vars": others | dict(spec.variables)})


def list_variable_paths(spec: EnvironmentSpec) -> frozenset[str]:
    """List the paths of `write_variable_files`."""
    return frozenset(write_variable_files(spec))


def write_variable_files(spec: EnvironmentSpec) -> Mapping[str, bytes]:
    """Write the files that give `spec`'s variables to an environment on disk, by path; none if it has none.

    The scripts are for POSIX shells. What a variable was before is not restored.
    """
    if not spec.variables:
        return {}
    sets = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in spec.variables)
    unsets = "".join(f"unset {name}\n" for name, _ in spec.variables)
    return {STATE: write_state(spec), ACTIVATE: sets.encode(), DEACTIVATE: unsets.encode()}
