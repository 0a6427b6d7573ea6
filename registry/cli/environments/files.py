"""Files that people write environments down in, as arguments of commands."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from registry.cli.options import UsageError

if TYPE_CHECKING:
    from builder.environments.inputs.input import EnvironmentInput
    from builder.settings import BuilderSettings

STANDARD_INPUT = "-"

_ENDS = re.compile(r"(?i).+\.(?:ya?ml|toml|lock|txt|json)")


def find_file(specs: Sequence[str]) -> str | None:
    """The one file that is named in the place of specs; None if these are specs. Raises UsageError.

    No spec ends as files do: a package's name may hold points, but none is called so.
    """
    named = [each for each in specs if each == STANDARD_INPUT or (_ENDS.fullmatch(each) and not set(each) & set("=<>"))]
    if not named:
        return None
    if len(specs) > 1:
        raise UsageError(f"{named[0]}: an environment is either one file or a list of specs; you gave both, or several")
    return named[0]


def read_file(path: str) -> bytes:
    """What is in a file, or comes from standard input for `-`. Raises UsageError."""
    if path == STANDARD_INPUT:
        return _read(sys.stdin.buffer, "standard input")
    try:
        with Path(path).open("rb") as file:
            return _read(file, path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None


def _read(file: IO[bytes], what: str) -> bytes:
    from builder.environments.inputs.reading import LARGEST_LOCK

    data = file.read(LARGEST_LOCK + 1)
    if len(data) > LARGEST_LOCK:
        raise UsageError(f"{what} has more than {LARGEST_LOCK} bytes, so it is no environment file and no lock")
    return data


def read_environment(content: bytes, path: str, settings: BuilderSettings) -> EnvironmentInput:
    """What the file says; it need not say a name. Raises UsageError."""
    from builder.environments.inputs.input import InputSettings
    from builder.environments.inputs.reading import read_input
    from builder.errors import InputInvalid

    try:
        return read_input(content, InputSettings.of(settings, needs_name=False), file_name=Path(path).name)
    except InputInvalid as error:
        raise UsageError(f"{'standard input' if path == STANDARD_INPUT else path}: {error}") from None


def choose_name(wanted: EnvironmentInput, name: str | None, path: str) -> str:
    """What the environment is called, by its file or by whoever asks. Raises UsageError."""
    from builder.environments.inputs.environment_file import check_name
    from builder.errors import InputInvalid

    if wanted.name and name and wanted.name != name:
        raise UsageError(f"{path} says that it is called {wanted.name}, and not {name}; change the name in the file")
    chosen = wanted.name or name
    if not chosen:
        raise UsageError(f"{path} does not say what its environment is called; give --name NAME")
    try:
        check_name(chosen, "name")
    except InputInvalid as error:
        raise UsageError(str(error)) from None
    return chosen
