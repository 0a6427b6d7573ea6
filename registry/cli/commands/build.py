"""`condery build`."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from registry.cli.display import SafeConsole, echo, echo_json
from registry.cli.options import AsJson, BuildSpecs, UsageError, run_async, takes_settings
from registry.settings.loading import LoadedSettings
from registry.settings.model import Settings

if TYPE_CHECKING:
    from builder.image.finished import FinishedImage
    from builder.publish import StoredImage
    from registry.cli.asked import Asked

LAYOUT = "oci:"
ARCHIVE = "docker-archive:"
_OTHER_ARCHIVES = (
    ".tgz",
    ".tar.gz",
    ".tar.zst",
    ".tzst",
    ".tar.bz2",
    ".tbz2",
    ".tar.xz",
    ".txz",
    ".zip",
    ".gz",
    ".zst",
    ".sif",
)
"""Ends of names that nobody means a directory by."""


class _Place(NamedTuple):
    path: Path
    is_archive: bool
    """A docker archive, and no OCI layout."""


@takes_settings("builder", "storage", "policy", "log")
def build(
    loaded: LoadedSettings,
    specs: BuildSpecs,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Write the image to PATH: a docker archive when PATH ends with .tar, else an OCI layout directory. "
            "docker-archive:PATH and oci:PATH choose the format.",
        ),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(
            metavar="REFERENCE",
            help="Push the image to another registry, HOST/REPOSITORY[:TAG], and print its reference there instead.",
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Build an image into the local store, and print its reference with its digest: REFERENCE@DIGEST.

    Instead of SPECs there may be one file: an environment file, a lock, a pixi manifest, or - for standard input. To
    give an environment a name and a history, use `condery env create FILE`.
    """
    from registry.cli.asked import read_asked
    from registry.logs.lines import configure
    from storage.disk.privacy import current_umask

    settings = loaded.settings
    configure(loaded.command_log)
    if push is not None:
        _check_reference(push)
    place = _read_place(output) if output is not None else None
    asked = read_asked(specs, settings.builder)
    reference, image, pushed = run_async(_build(settings, asked, place, push, current_umask(), quiet=json))
    if json:
        document = {
            "reference": reference,
            "digest": image.variants[0].digest,
            "media_type": image.variants[0].media_type,
            "lock": image.lock_key,
            "pushed": pushed,
            "warnings": list(image.warnings),
        }
        echo_json(document)
        return
    for warning in image.warnings:
        echo(f"warning: {warning}", err=True)
    typer.echo(pushed or f"{reference}@{image.variants[0].digest}")


def _check_reference(push: str) -> None:
    """Raise UsageError now for a reference that nothing can be pushed to, and not after the build."""
    from builder.remote.reference import ImageReference

    try:
        ImageReference.parse(push)
    except ValueError as error:
        raise UsageError(f"--push: {error}") from error


def _read_place(output: str) -> _Place:
    """Raise UsageError now for what nothing can be written to, and not after the build."""
    name = output.removeprefix(ARCHIVE).removeprefix(LAYOUT)
    path, is_named = Path(name), output.startswith((ARCHIVE, LAYOUT))
    if not name:
        raise UsageError(f"--output {output}: there is no path")
    if not is_named and name.lower().endswith(_OTHER_ARCHIVES):
        raise UsageError(
            f"--output {output}: an image is written as a docker archive, whose name ends with .tar and which is not "
            f"compressed, or as a directory; if this is to be a directory, write {LAYOUT}{output}"
        )
    is_archive = output.startswith(ARCHIVE) or (not is_named and name.lower().endswith(".tar"))
    if is_archive and path.is_dir():
        raise UsageError(f"--output {output}: that is a directory, and a docker archive is a file")
    if not is_archive and path.exists() and not path.is_dir():
        raise UsageError(f"--output {output}: that is a file, and an OCI layout is a directory")
    return _Place(path, is_archive)


async def _build(
    settings: Settings, asked: Asked, output: _Place | None, push: str | None, umask: int, *, quiet: bool
) -> tuple[str, FinishedImage, str | None]:
    """Build the image; return its reference here, the image, and the reference that it was pushed to.

    `umask` is the caller's, for files outside the data directory. A `quiet` build shows no progress.
    """
    from builder.names import image_name
    from builder.progress import show_nothing
    from builder.publish import StoredImage
    from registry.cli.display import build_display
    from registry.cli.local import manifests_below, open_service
    from storage.blobs.blocking import StoreInThreads
    from storage.catalog.locks import write_lock_tag

    console = SafeConsole(stderr=True)
    pushed = None
    async with open_service(settings) as (store, service):
        with contextlib.nullcontext(show_nothing) if quiet else build_display(console) as progress:
            image = await (
                service.build_lock(asked.lock, progress) if asked.lock else service.build(asked.spec, progress)
            )
        reference = f"{image_name.write_repository(asked.spec, settings.builder)}:{write_lock_tag(image.lock_key)}"
        if output or push:
            manifests = await manifests_below(store.catalog, image.variants[0].digest)
            stored = StoredImage(image.variants[0], StoreInThreads(store.blobs), lambda digest: manifests[digest])
            if output:
                await asyncio.to_thread(_write, stored, output, reference, umask)
            if push:
                pushed = await asyncio.to_thread(_push, stored, push, settings)
    return reference, image, pushed


def _write(image: StoredImage, output: _Place, reference: str, umask: int) -> None:
    from builder.publish import write_docker_archive, write_oci_layout

    if output.is_archive:
        write_docker_archive(output.path, image, name=reference, umask=umask)
    else:
        write_oci_layout(output.path, image, tag=reference.rpartition(":")[2], umask=umask)


def _push(image: StoredImage, reference: str, settings: Settings) -> str:
    from builder.publish import push
    from builder.remote.logins import read_logins

    credentials = settings.builder.credentials
    return push(
        reference,
        image,
        logins=read_logins(credentials) if credentials else {},
        insecure=settings.builder.insecure_registries,
    )
