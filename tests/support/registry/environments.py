"""The whole application with a small channel, accounts, and the REST API of environments."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from auth.accounts.accounts import Accounts
from auth.accounts.bindings import HeldBindings, Holder
from auth.accounts.names import Names
from auth.accounts.passwords import Passwords
from auth.audit.actor import Actor
from auth.changing import AccessData
from auth.role import Roles
from auth.settings import AccessSettings
from builder.environments.life import NamedEnvironments
from builder.environments.watching.settings import WatchSettings
from builder.settings import BuilderSettings
from registry.app import create_app
from registry.http.settings import HttpSettings
from registry.parts import PARTS, STOPPING, Parts
from registry.settings.model import Settings
from registry.webhooks.settings import WebhookSettings
from storage.settings import StorageSettings
from storage.upkeep_settings import UpkeepSettings
from tests.support.auth.opened import CHEAP
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel
from tests.support.registry.people import PASSWORD, basic, bearer
from tests.support.servers.channel_server import ChannelServer
from tests.support.storage.stores import seed_data

BY = Actor.operator()
NOBODY: Mapping[str, str] = {}


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        return self.json()["data"]

    @property
    def message(self) -> str:
        return str(self.json()["message"])


@dataclass
class Place:
    """A running server, and requests by whoever `headers` says."""

    client: aiohttp.ClientSession
    url: str
    parts: Parts
    channel: str
    headers: Mapping[str, str]
    server: ChannelServer | None = None
    """Of the channel, if it is not a directory."""

    def by(self, name: str | None) -> Place:
        """The same place for somebody else."""
        headers = NOBODY if name is None else basic(name, PASSWORD)
        return replace(self, headers=headers)

    def with_token(self, text: str) -> Place:
        """The same place for whoever shows an access token."""
        return replace(self, headers=bearer(text))

    @property
    def named(self) -> NamedEnvironments:
        assert self.parts.environments is not None
        return self.parts.environments

    async def ask(self, method: str, path: str, document: Any = None, **headers: str) -> Answer:
        url = URL(f"{self.url}/api/v1/{path}", encoded=True)
        options = {} if document is None else {"json": document}
        async with self.client.request(method, url, headers={**self.headers, **headers}, **options) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def get(self, path: str) -> Answer:
        answer = await self.ask("GET", path)
        assert answer.status == 200, (path, answer.status, answer.body)
        return answer

    async def post(self, name: str, *specs: str, namespace: str | None = "team", **more: Any) -> int:
        """Write an environment down; return its build."""
        text = json.dumps({"name": name, "channels": [self.channel], "dependencies": list(specs)})
        document = {"specification": text, "namespace": namespace, **more}
        answer = await self.ask("POST", "specification/", document)
        assert answer.status == 200, answer.body
        return int(answer.data["build_id"])

    async def end_of(self, build: int) -> Any:
        """The build when it has ended."""
        async with asyncio.timeout(60):
            while True:
                found = (await self.get(f"build/{build}/")).data
                if found["status"] not in ("QUEUED", "BUILDING"):
                    return found
                await asyncio.sleep(0.02)

    async def make(self, name: str, *specs: str, namespace: str | None = "team") -> Any:
        return await self.end_of(await self.post(name, *specs, namespace=namespace))


@contextlib.asynccontextmanager
async def serving_environments(
    directory: Path,
    people: Mapping[str, Sequence[str]] = {"admin": ("*/*=admin",)},
    packages: Sequence[str | Package] = ("one", "two"),
    *,
    anonymous: tuple[str, ...] = ("none",),
    read_only: bool = False,
    roles: tuple[str, ...] = (),
    watch: tuple[str, ...] = (),
    database: str | None = None,
    served: bool = False,
    webhooks: tuple[str, ...] = (),
    **builder: Any,
) -> AsyncIterator[Place]:
    """A server for `people`, whose bindings these are; requests are the first one's. A `served` channel has its own."""
    channel = await make_channel(
        directory / "channel", [Package(each) if isinstance(each, str) else each for each in packages]
    )
    watching = WatchSettings(watch=watch)
    access = AccessSettings(anonymous_bindings=anonymous, signed_in_bindings=("none",), roles=roles)
    async with ChannelServer(directory / "channel") if served else contextlib.nullcontext() as server:
        url = server.url if server else channel
        async with _open(
            directory, url, people, access, watching, WebhookSettings(webhooks=webhooks), read_only, database, builder
        ) as place:
            try:
                yield replace(place, server=server)
            finally:
                for held in server.holds if server else ():
                    held.released.set()


@contextlib.asynccontextmanager
async def _open(
    directory: Path,
    channel: str,
    people: Mapping[str, Sequence[str]],
    access: AccessSettings,
    watching: WatchSettings,
    webhook: WebhookSettings,
    read_only: bool,
    database: str | None,
    builder: Mapping[str, Any],
) -> AsyncIterator[Place]:
    values = {"channels": (channel,), "base": "scratch", "repodata_refresh": 0, "workers": 1, **builder}
    settings = Settings(
        http=HttpSettings(answer_within=5.0),
        access=access,
        watching=watching,
        webhook=webhook,
        builder=BuilderSettings(**values),
        storage=StorageSettings(data_directory=directory / "data", database=database),
        upkeep=UpkeepSettings(read_only=read_only),
    )
    if database is None:
        seed_data(directory / "data")
    app = create_app(settings)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        parts = app[PARTS]
        await _add(parts, people, access.own_roles)
        async with aiohttp.ClientSession() as client:
            place = Place(client, f"http://{host}:{port}", parts, channel, NOBODY)
            yield place.by(next(iter(people), None))
    finally:
        # as a server does it when it is told to stop; streams would go on otherwise
        app[STOPPING].set()
        await runner.cleanup()


async def _add(parts: Parts, people: Mapping[str, Sequence[str]], roles: Roles) -> None:
    data = AccessData(parts.blobs.database, parts.changes)
    with Passwords(data, 2, CHEAP) as passwords:
        accounts, bindings = Accounts(data, Names("conda-store-dynamic"), passwords), HeldBindings(data, roles)
        for name, held in people.items():
            await accounts.add_person(name, PASSWORD, by=BY)
            for each in held:
                await bindings.bind(Holder("account", name), each, by=BY)
