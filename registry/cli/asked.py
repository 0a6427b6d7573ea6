"""What `condery build` and `condery lock` make something of: specs, or a file in which somebody wrote them down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry.cli.display import echo
from registry.cli.options import UsageError

if TYPE_CHECKING:
    from builder.locks.lock import Lock
    from builder.names.spec import EnvironmentSpec
    from builder.settings import BuilderSettings


@dataclass(frozen=True)
class Asked:
    """`spec` is solved, unless there is a `lock`."""

    spec: EnvironmentSpec
    lock: Lock | None = None


def read_asked(specs: Sequence[str], settings: BuilderSettings) -> Asked:
    """Raises UsageError, InvalidImageName."""
    from builder.names import image_name
    from registry.cli.environments.files import find_file, read_environment, read_file

    file = find_file(specs)
    if file is None:
        return Asked(image_name.parse_specs(specs, settings))
    wanted = read_environment(read_file(file), file, settings)
    if wanted.extends:
        raise UsageError(f"{file}: it extends {wanted.extends}, which `condery env create {file}` does")
    for warning in wanted.warnings:
        echo(f"warning: {warning}", err=True)
    return Asked(wanted.spec, wanted.lock)
