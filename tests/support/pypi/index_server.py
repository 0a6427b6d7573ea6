"""An index of PyPI packages over local HTTP (PEP 503, 691, 658) with wheels that are made here, and faults on demand.

async with IndexServer() as server:
    server.add("six", "1.0")
    ... server.url ...
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import zipfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from aiohttp import web

_FOR_EVER = {"Cache-Control": "max-age=365000000, immutable, public"}
"""As PyPI says of files."""

Odd = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Wheel:
    """A file of an index. `facts` are added to what the index says of it."""

    name: str
    file_name: str
    content: bytes
    metadata: bytes
    facts: dict[str, Any]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def make_wheel(
    name: str,
    version: str,
    requires: Sequence[str] = (),
    *,
    tag: str = "py3-none-any",
    headers: Sequence[str] = (),
    module: str = "",
    **facts: Any,
) -> Wheel:
    stem = f"{name.replace('-', '_')}-{version}"
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *headers,
        *(f"Requires-Dist: {each}" for each in requires),
    ]
    metadata = "".join(f"{line}\n" for line in lines).encode()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for member, text in (
            (f"{module or name.replace('-', '_')}.py", f"version = {version!r}\n".encode()),
            (f"{stem}.dist-info/METADATA", metadata),
            (f"{stem}.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n".encode()),
            (f"{stem}.dist-info/RECORD", b""),
        ):
            archive.writestr(zipfile.ZipInfo(member, (2020, 1, 1, 0, 0, 0)), text)
    return Wheel(name, f"{stem}-{tag}.whl", content.getvalue(), metadata, facts)


@dataclass
class IndexServer:
    """Its index is at `url`; files are below the same host. Only requests with `authorization` are allowed, if any."""

    authorization: str | None = None
    form: Literal["json", "html"] = "json"
    has_metadata: bool = True
    wheels: list[Wheel] = field(default_factory=list)
    odd: dict[str, Odd] = field(default_factory=dict)
    """Answers of their own for requests whose path ends so."""
    paths: list[str] = field(default_factory=list)
    """Of all requests."""

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def host(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.host}/simple"

    def add(self, name: str, version: str, requires: Sequence[str] = (), **facts: Any) -> Wheel:
        wheel = make_wheel(name, version, requires, **facts)
        self.wheels.append(wheel)
        return wheel

    def add_source(self, name: str, version: str) -> None:
        self.wheels.append(Wheel(name, f"{name}-{version}.tar.gz", b"source", b"", {}))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        self.paths.append(path)
        if self.authorization and request.headers.get("Authorization") != self.authorization:
            return web.Response(status=401)
        for suffix, odd in self.odd.items():
            if path.endswith(suffix):
                return await odd(request)
        if path.startswith("/simple/"):
            answer = self._answer_page(path.split("/")[2])
            # as PyPI
            answer.headers["Cache-Control"] = "max-age=600"
            return answer
        file_name = path.rpartition("/")[2]
        for wheel in self.wheels:
            if file_name == wheel.file_name:
                return web.Response(body=wheel.content, headers=_FOR_EVER)
            if file_name == f"{wheel.file_name}.metadata" and self.has_metadata:
                return web.Response(body=wheel.metadata, headers=_FOR_EVER)
        return web.Response(status=404)

    def _answer_page(self, name: str) -> web.Response:
        found = [wheel for wheel in self.wheels if wheel.name == name]
        if not found:
            return web.Response(status=404)
        if self.form == "html":
            links = (f'<a href="/files/{each.file_name}#sha256={each.sha256}">x</a>' for each in found)
            return web.Response(text="".join(links), content_type="text/html")
        document = {"meta": {"api-version": "1.1"}, "name": name, "files": [self.describe(each) for each in found]}
        return web.json_response(document, content_type="application/vnd.pypi.simple.v1+json")

    def describe(self, wheel: Wheel) -> dict[str, Any]:
        beside = {"core-metadata": {"sha256": hashlib.sha256(wheel.metadata).hexdigest()}} if self.has_metadata else {}
        return {
            "filename": wheel.file_name,
            "url": f"/files/{wheel.file_name}",
            "hashes": {"sha256": wheel.sha256},
            "size": len(wheel.content),
            "upload-time": "2024-01-01T00:00:00Z",
            **beside,
            **wheel.facts,
        }


async def stall(_: web.Request) -> web.StreamResponse:
    """An answer that never comes."""
    await asyncio.sleep(60)
    return web.Response()
