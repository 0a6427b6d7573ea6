"""`condery verify`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from registry.cli.display import SafeConsole, echo, echo_json
from registry.cli.options import FAILED, AsJson, need_data, run_async, takes_settings
from registry.settings.loading import LoadedSettings
from registry.settings.model import Settings

if TYPE_CHECKING:
    from storage.integrity.repair import Repaired
    from storage.integrity.verify import Verification


@takes_settings("storage")
def verify(
    loaded: LoadedSettings,
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove damaged content, so that the next push or build stores it again.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Read every stored byte and compare it with its digest.

    The exit code is 1 if something is damaged or missing.
    """
    need_data(loaded.settings.data_directory)
    result, repaired = run_async(_verify(loaded.settings, repair))
    if json:
        document = result.to_json() | ({"forgotten": asdict(repaired)} if repaired else {})
        echo_json(document)
    else:
        _show(result, repaired)
    if result.damage:
        raise typer.Exit(FAILED)


async def _verify(settings: Settings, mend: bool) -> tuple[Verification, Repaired | None]:
    from storage.integrity.repair import repair
    from storage.integrity.verify import Verifier
    from storage.store import open_store

    console = SafeConsole(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    async with open_store(settings.storage) as store:
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task("reading", total=None)
            verifier = Verifier(store.blobs, lambda done, total: bar.update(task, completed=done, total=total))
            result = await verifier.verify()
        return result, await repair(store.blobs, store.changes, result) if mend else None


def _show(result: Verification, repaired: Repaired | None) -> None:
    for each in result.damage:
        needed = f"; needed by {', '.join(each.needed_by)}" if each.needed_by else ""
        echo(f"{each.kind} {each.digest}: {each.problem}{needed}")
    if repaired:
        typer.echo(
            f"removed {repaired.blobs} blobs, and {repaired.manifests} manifests with their tags: push the images that "
            f"need them again; {repaired.images} on-demand images are made again on request"
        )
    sound = "all sound" if not result.damage else f"{len(result.damage)} damaged"
    typer.echo(f"{result.blobs} blobs, {result.manifests} manifests, {result.bytes / 1e6:.1f} MB read: {sound}")
