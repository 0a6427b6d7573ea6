"""The servers for `bench.serving.http`, each a process: condery's HTTP side with one image, or bare aiohttp.

python -m bench.serving.http_server condery|bare DIRECTORY
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import uvloop
from aiohttp import web

from auth.changing import AccessData
from auth.settings import AccessSettings
from builder.artifacts.artifact import Artifact
from builder.errors import UnknownArtifact
from builder.image.documents import write_beginning
from builder.image.finished import FinishedImage
from builder.names.spec import EnvironmentSpec, PackageItem
from builder.ticket import Ticket
from builder.work.claims import Caller, Permit
from registry.access.opening import open_access
from registry.http.settings import HttpSettings
from registry.logs.request_log import request_log
from registry.logs.settings import LogSettings
from registry.parts import PARTS, Parts
from registry.routes import compose
from registry.serving.server import rest_collector
from storage.digest import Descriptor
from storage.oci import OCI_INDEX
from storage.repositories.rows import Push, StoredManifest
from storage.settings import StorageSettings
from storage.store import open_store

SPEC = EnvironmentSpec((PackageItem("numpy"),), ("conda-forge",))
MANIFEST = StoredManifest.of(
    OCI_INDEX, write_beginning(SPEC, OCI_INDEX) + b'},"manifests":[' + b'"' + b"0" * 700 + b'"]}'
)
REPOSITORY = "conda-store-dynamic/numpy"
MANIFEST_PATH = f"/v2/{REPOSITORY}/manifests/latest"


@dataclass(frozen=True)
class OneImage:
    """A `registry.parts.ImagesByName` with one finished image."""

    root = "conda-store-dynamic"

    def owns(self, repository: str) -> bool:
        return repository == REPOSITORY

    async def image(self, repository: str, tag: str, caller: Caller, permit: Permit) -> Ticket[FinishedImage]:
        descriptor = Descriptor(MANIFEST.media_type, MANIFEST.digest, len(MANIFEST.body))
        return Ticket(SPEC, ready=FinishedImage("0" * 64, (descriptor,)))

    async def artifact(self, repository: str, tag: str, name: str, caller: Caller, permit: Permit) -> Ticket[Artifact]:
        raise UnknownArtifact(name, ())

    async def tags(self, repository: str) -> list[str]:
        return ["latest"]


def condery(directory: Path) -> web.Application:
    """With everything that a request meets in service: a request id, a JSON line written to a file, error mapping."""

    @contextlib.asynccontextmanager
    async def parts() -> AsyncIterator[Parts]:
        async with (
            open_store(StorageSettings(data_directory=directory)) as store,
            open_access(
                AccessSettings(), HttpSettings(), AccessData(store.database, store.changes), OneImage.root
            ) as opened,
        ):
            await store.catalog.images.put("bench", "0" * 64, {}, OneImage.root, [Push(MANIFEST)])
            yield Parts(
                OneImage(),
                store.blobs,
                store.repositories,
                store.uploads,
                opened.access,
                opened.authentication,
                opened.tokens,
                opened.audit,
                opened.namespaces,
                opened.bindings,
                store.environments,
            )

    log = (directory / "requests.log").open("w")
    return compose(HttpSettings(), parts, request_log(LogSettings(log_format="json"), log))


def bare(_directory: Path) -> web.Application:
    """The least that answers the same bytes with the same headers."""

    async def handler(_request: web.Request) -> web.Response:
        headers = {
            "Content-Type": MANIFEST.media_type,
            "Docker-Content-Digest": MANIFEST.digest,
            "ETag": f'"{MANIFEST.digest}"',
        }
        return web.Response(body=MANIFEST.body, headers=headers)

    app = web.Application()
    app.router.add_get("/v2/{path:.*}", handler)
    return app


async def serve(app: web.Application) -> None:
    """Print the port, then serve until standard input ends."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    if PARTS in app:
        rest_collector()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(serve({"condery": condery, "bare": bare}[sys.argv[1]](Path(sys.argv[2]))))
