"""The variables that packages set, as conda's and rattler's activation read them.

Every file in `etc/conda/env_vars.d`, whatever its name, is a JSON object of variables. The files are read in the order
of their names, and a later one wins; `conda-meta/state` comes last. docs/fragments.md says which to follow where conda
and rattler differ. What cannot be used is skipped and reported; it never fails the image.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import orjson

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
