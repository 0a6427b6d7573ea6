"""`condery explain`."""

from __future__ import annotations

import json as json_module
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from registry.cli.display import SafeConsole, echo_json
from registry.cli.environments.opening import Insecure, Server, find_server, open_client
from registry.cli.options import AsJson, UsageError, run_async, takes_settings
from registry.cli.stored_images import find_lock_of_environment, find_resolution_elsewhere, is_meant
from registry.settings.loading import LoadedSettings
from registry.settings.model import Settings
from storage.digest import Digest
from storage.errors import ConderyError, DigestInvalid
from storage.text import redact

if TYPE_CHECKING:
    from builder.errors import BuilderError
    from builder.image.report import LayerReport, PlatformReport
    from builder.names.spec import EnvironmentSpec
    from builder.packages.overlap import Overlap
    from storage.store import Store

LOCK = re.compile(r"(?:lock-)?([0-9a-f]{12,64})")
LOCK_ANNOTATION = "io.condery.lock"


class ImageUnknown(ConderyError):
    def __init__(self, image: str, reason: str) -> None:
        super().__init__(f"{image}: {reason}")


@takes_settings("builder", "storage", "log")
def explain(
    loaded: LoadedSettings,
    image: Annotated[
        str, typer.Argument(metavar="IMAGE", help="[HOST/]NAME[:TAG], lock-<hex>, or the digest of a manifest.")
    ],
    json: AsJson = False,
    server: Server = None,
    insecure: Insecure = False,
) -> None:
    """Show what an image is made of, in the local store or at a running server.

    The report lists layers with their packages and sizes, files that several packages contain, skipped link scripts and
    variables, activation scripts that the image's shell cannot run, files that differ from their package's list, and
    the time of each stage.
    """
    from registry.logs.lines import configure

    configure(loaded.command_log)
    asked = find_server(server)
    if asked is None:
        report = run_async(_report(loaded.settings, image))
    else:
        from registry.cli.reports import fetch_report

        client = open_client(asked, insecure=insecure)
        report = run_async(fetch_report(client, image, loaded.settings.builder.root))
    if json:
        echo_json(report)
    else:
        show(SafeConsole(highlight=False), report)


async def _report(settings: Settings, image: str) -> dict[str, Any]:
    from builder.locks.lock import Lock
    from storage.store import open_store

    async with open_store(settings.storage) as store:
        key = await lock_key_of(image, settings, store)
        found = await store.catalog.locks.find(key)
        spec = Lock.from_json(found).spec if found else None
        document = await store.catalog.images.find_newest_of_lock(key)
        if document is None:
            failure = await _find_failure(settings, store, spec, None, key) if spec else None
            raise ImageUnknown(
                image,
                "the environment was solved, but no image of it was finished; "
                + (f"the last build failed: {failure}" if failure else "pull it or build it"),
            )
        return {"lock": key, "channels": [redact(channel) for channel in spec.channels] if spec else [], **document}


async def lock_key_of(image: str, settings: Settings, store: Store) -> str:
    """The key of the lock that an image was made from. Raises ImageUnknown, UnknownLock, InvalidImageName."""
    from builder.locks.stored import find_lock_key

    if found := LOCK.fullmatch(image):
        return await find_lock_key(store.catalog.locks, image, found[1])
    if image.startswith(("sha256:", "sha512:")):
        try:
            Digest.parse(image)
        except DigestInvalid as error:
            raise UsageError(str(error)) from None
        return await _lock_of_manifest(image, store)
    if (of_environment := await find_lock_of_environment(image, store)) is not None:
        return of_environment
    try:
        return await _lock_of_name(image, settings, store)
    except ConderyError as error:
        repository = _without_host(image).partition(":")[0]
        if await store.repositories.exists(repository):
            raise ImageUnknown(
                image,
                f"{repository} holds what was pushed to it, and explain knows only the names of images made on demand; "
                "give the digest that `condery build` printed",
            ) from error
        raise


async def _lock_of_manifest(image: str, store: Store) -> str:
    stored = await store.catalog.images.find_manifest(Digest.parse(image))
    if stored is None:
        raise ImageUnknown(image, "no manifest with this digest is stored here")
    document = json_module.loads(stored.body)
    if "manifests" in document:
        return await _lock_of_manifest(document["manifests"][0]["digest"], store)
    if key := (document.get("annotations") or {}).get(LOCK_ANNOTATION):
        return str(key)
    # Docker's manifests have no annotations, but their config has the same as labels.
    config = json_module.loads(await store.blobs.content(Digest.parse(document["config"]["digest"])))
    return str(config["config"]["Labels"][LOCK_ANNOTATION])


async def _lock_of_name(image: str, settings: Settings, store: Store) -> str:
    from builder.demand import list_spec_keys, read_name
    from builder.names.image_name import LockReference

    repository, tag = _repository_and_tag(image, settings.builder.root)
    request = await read_name(repository, tag, settings.builder, store.catalog)
    keys = list_spec_keys(request.spec, settings.builder.root)
    if isinstance(request.reference, LockReference):
        return await _lock_of_tag(repository, tag, request.reference.hex, keys, settings, store)
    day = request.spec.until
    found = [
        await store.catalog.locks.find_newest_resolution(key, day.isoformat() if day else None)
        for key in list_spec_keys(replace(request.spec, until=None), settings.builder.root)
    ]
    resolution = max(filter(None, found), key=lambda each: each.solved, default=None)
    if resolution is None:
        resolution = await find_resolution_elsewhere(repository, tag, request.spec, settings.builder, store)
    if resolution is None:
        raise ImageUnknown(image, await _why_not_built(request.spec, settings, store))
    return resolution.lock_key


async def _lock_of_tag(
    repository: str, tag: str, prefix: str, keys: Sequence[str], settings: Settings, store: Store
) -> str:
    """The lock that begins with `prefix`, if it was made for what the name says. Raises UnknownLock."""
    from builder.errors import UnknownLock
    from builder.locks.lock import Lock
    from builder.locks.stored import find_lock_key

    try:
        return await find_lock_key(store.catalog.locks, tag, prefix, keys)
    except UnknownLock as error:
        refused = error
    key = await find_lock_key(store.catalog.locks, tag, prefix)
    document = await store.catalog.locks.find(key)
    if document is None or not is_meant(repository, tag, Lock.from_json(document).spec, settings.builder):
        raise refused
    return key


async def _why_not_built(spec: EnvironmentSpec, settings: Settings, store: Store) -> str:
    """Why a pull cannot, or at its last attempt could not, build `spec`; otherwise how to build it.

    The channels and platforms that give a name its meaning are this command's settings; the server's may differ.
    """
    reason = await _why_unsolvable(spec, settings, store)
    if reason is not None and not reason.transient:
        # it says from which channels and for which platform
        return f"this has not been built here yet, and no build can succeed: {reason}"
    channels = ", ".join(map(redact, spec.channels))
    where = f"this has not been built here yet from the channels {channels} for {', '.join(spec.platforms)}"
    if failure := await _find_failure(settings, store, spec, None):
        return f"{where}; the last build failed: {failure}"
    unknown = f". Whether it can be is not known now: {reason}" if reason is not None else ""
    return (
        f"{where}; pull it, or use `condery build`. If the server has other settings, give them: --config, or "
        f"--channel and --platform (settings channels and platforms){unknown}"
    )


async def _why_unsolvable(spec: EnvironmentSpec, settings: Settings, store: Store) -> BuilderError | None:
    """The solver's reason, a transient one if it cannot be known now; None if `spec` can be solved."""
    from builder.errors import BuilderError
    from registry.cli.local import open_builder

    async with open_builder(settings, store) as service:
        try:
            await service.builder.check(spec)
        except BuilderError as error:
            return error
    return None


async def _find_failure(settings: Settings, store: Store, spec: EnvironmentSpec, *lock_keys: str | None) -> str | None:
    """Why the last build of `spec` failed by these settings, as itself (None) or from one of the locks, if it did."""
    from builder.queue.ended import read_failure
    from builder.queue.job import Job
    from builder.queue.settings_key import make_settings_key

    held = make_settings_key(settings.builder)
    for lock_key in lock_keys:
        row = await store.catalog.builds.last(Job("image", spec, lock_key, settings=held).key)
        if row is not None and row.ended is not None and row.error_kind:
            return str(read_failure(row))
    return None


def _repository_and_tag(image: str, root: str) -> tuple[str, str]:
    """Repository and tag of `[host:port/][root/]items[:tag]`, as people copy it from a pull or a build's output."""
    name, _, digest = image.partition("@")
    if digest:
        raise UsageError(f"{image}: give the name with its tag, or the digest alone")
    repository, _, tag = _without_host(name).partition(":")
    if repository.partition("/")[0] != root:
        repository = f"{root}/{repository}"
    return repository, tag or "latest"


def _without_host(name: str) -> str:
    host, slash, rest = name.partition("/")
    return rest if slash and (":" in host or host == "localhost") else name


def show(console: SafeConsole, report: dict[str, Any]) -> None:
    """Print the report as tables for people, with the same facts as the JSON document."""
    from builder.image.report import BuildReport

    console.print(f"lock-{report['lock']}", soft_wrap=True)
    if report["channels"]:
        console.print(f"from the channels {', '.join(report['channels'])}", soft_wrap=True)
    for variant in report["image"]["variants"]:
        console.print(f"{variant['digest']}  {variant['mediaType']}", soft_wrap=True)
    build = BuildReport.from_json(report["report"])
    for name, platform in build.platforms.items():
        console.print(_layers(name, platform.layers))
        _show_overlaps(console, platform.overlaps)
        for package, scripts in platform.scripts.items():
            console.print(f"link scripts of {package} were not run: {', '.join(scripts)}")
        _show_notes(console, platform)
    stages = ", ".join(f"{stage} {taken:.2f} s" for stage, taken in build.seconds.items())
    console.print(f"made in {sum(build.seconds.values()):.2f} s: {stages}")


def _layers(platform: str, layers: Sequence[LayerReport]) -> Table:
    """A table of layers with compressed sizes in MB. A layer is larger than its packages, since it has directories."""
    table = Table("layer", "MB", "packages", title=f"{platform}, without the base", title_justify="left")
    for layer in layers:
        packages = sorted(layer.packages, key=lambda package: -package[1])
        named = ", ".join(f"{name} {_megabytes(size)}" for name, size in packages)
        table.add_row(layer.digest[7:19], _megabytes(layer.size), named or "the environment's own files")
    table.add_row("", _megabytes(sum(layer.size for layer in layers)), "in all", style="bold")
    return table


def _show_overlaps(console: SafeConsole, overlaps: Sequence[Overlap]) -> None:
    if not overlaps:
        return
    table = Table("path", "taken from", "left out of", title="files that several packages have", title_justify="left")
    for row in overlaps:
        table.add_row(row.path, row.winner, ", ".join(row.losers))
    console.print(table)


def _show_notes(console: SafeConsole, platform: PlatformReport) -> None:
    """Print the faults that the build recorded."""
    for text in platform.warnings:
        console.print(text)
    for text in platform.variables:
        console.print(f"skipped: {text}")
    for package, lines in platform.differences.items():
        for line in lines:
            console.print(f"not as {package} lists it: {line}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}" if size >= 50_000 else f"{size / 1e6:.3f}"
