"""`condery lock`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.locks.formats import FORMATS, FormatName, LockFormat
from registry.cli.display import SafeConsole
from registry.cli.options import Specs, UsageError, run_async, takes_settings
from registry.settings.loading import LoadedSettings
from registry.settings.model import Settings

if TYPE_CHECKING:
    from builder.locks.lock import Lock
    from builder.names.spec import EnvironmentSpec


@takes_settings("builder", "storage", "policy", "log")
def lock(
    loaded: LoadedSettings,
    specs: Specs,
    output: Annotated[Path | None, typer.Option(metavar="PATH", help="File to write; stdout when unset.")] = None,
    format: Annotated[  # noqa: A002 - the flag's name
        FormatName,
        typer.Option(
            help="Format: conda-lock.yml, pixi.lock, an explicit list of URLs, or an environment file with exact "
            "versions."
        ),
    ] = FormatName.CONDA_LOCK,
) -> None:
    """Solve specs and write the lock file. Nothing is downloaded or built.

    Instead of SPECs there may be one file: an environment file, a pixi manifest, a lock, which is written in another
    format, or - for standard input.
    """
    from registry.cli.asked import read_asked
    from registry.logs.lines import configure
    from storage.disk.files import atomic_write

    settings = loaded.settings
    configure(loaded.command_log)
    if output is not None:
        _check_place(output)
    asked = read_asked(specs, settings.builder)
    [lock_format] = [each for each in FORMATS if each.name == format]
    text = _write(asked.lock or run_async(_solve(settings, asked.spec)), lock_format)
    if output is None:
        typer.echo(text, nl=False)
        return
    with atomic_write(output) as file:
        file.write(text)


def _check_place(output: Path) -> None:
    """Raise UsageError now for what no file can be written to, and not after the solve."""
    if output.is_dir():
        raise UsageError(f"--output {output}: that is a directory, and a lock is a file")
    if not output.parent.is_dir():
        raise UsageError(f"--output {output}: there is no directory {output.parent}")


async def _solve(settings: Settings, spec: EnvironmentSpec) -> Lock:
    from registry.cli.display import build_display
    from registry.cli.local import open_service

    async with open_service(settings) as (_, service):
        with build_display(SafeConsole(stderr=True)) as progress:
            return await service.lock(spec, progress)


def _write(lock: Lock, lock_format: LockFormat) -> bytes:
    platforms = sorted(lock.packages)
    if len(platforms) > 1 and not lock_format.all_platforms:
        raise UsageError(
            f"a lock file in the format {lock_format.name} is for one platform; choose one with --platform: "
            f"{', '.join(platforms)}"
        )
    return lock_format.write(lock, platforms[0])
