"""A whole session with every kind of secret that condery knows, used rightly and wrongly, and then a search for each.

What a person puts where it does not belong can be kept from the log only if it can be known: tokens are, by their form,
wherever they are; a password in the place of a name is, because no account has that name. A password in the path of a
request, or as the name of a tag, is a name like any other.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import secrets
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import aiohttp
import psycopg
import pytest
from aiohttp import web
from sqlalchemy.engine import make_url

from storage.vault.key_text import new_key
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel
from tests.support.registry.mirrored import APP, FIRST
from tests.support.registry.upstreams import Behaviour, ScriptedRegistry, scripted_registry
from tests.support.server import Server
from tests.support.servers.channel_server import ChannelServer
from tests.support.servers.issuer import Issuer
from tests.support.servers.postgres import Postgres
from tests.support.servers.receiver import Receiver, receiving
from tests.support.servers.s3_server import ACCESS_KEY, REGION, SECRET_KEY, S3Server
from tests.support.wide import WIDE

AUDIENCE = "https://registry.example.org"
SHORTEST = 12
"""Characters of the pieces of a base64 form that are searched for."""


@dataclass
class Secrets:
    """Every secret of the session, by what it is."""

    known: dict[str, str] = field(default_factory=dict)

    def make(self, what: str) -> str:
        """A new one that nothing else contains, good as a name as well."""
        return self.add(what, f"x{secrets.token_hex(12)}")

    def add(self, what: str, text: str) -> str:
        assert len(text) >= SHORTEST, what
        self.known[what] = text
        return text

    def __getitem__(self, what: str) -> str:
        return self.known[what]

    def find_in(self, content: bytes) -> list[str]:
        """What of them is there, as it is, percent-encoded, or in base64 at any place of a longer text."""
        return [what for what, text in self.known.items() if any(each in content for each in forms_of(text))]


def forms_of(text: str) -> set[bytes]:
    found = {text.encode(), quote(text, safe="").encode()}
    for shift in range(3):
        # the characters that the neighbours have a part in are left out
        encoded = base64.b64encode(b"\0" * shift + text.encode())
        middle = encoded[4 if shift else 0 :].rstrip(b"=")[:-2]
        found |= {middle, middle.replace(b"+", b"-").replace(b"/", b"_")}
    return found


def test_the_search_finds_what_it_is_for() -> None:
    held = Secrets()
    text = held.make("password")
    assert held.find_in(b"nothing") == []
    for before in ("", "a", "ab", "abc"):
        for after in ("", "z"):
            for content in (f"{before}{text}{after}".encode(), base64.b64encode(f"{before}{text}{after}".encode())):
                assert held.find_in(b'{"line": "' + content + b'"}') == ["password"]


@dataclass
class Session:
    """A server with all that it talks to."""

    directory: Path
    held: Secrets
    server: Server
    database: str | None
    channel: ChannelServer
    upstream: ScriptedRegistry
    issuer: Issuer
    hooks: Receiver
    client: aiohttp.ClientSession
    said: list[str] = field(default_factory=list)
    """What commands printed that is no secret by its purpose."""
    environment: dict[str, str] = field(default_factory=dict)

    async def run(self, line: str, *, stdin: str = "", shows: str = "", code: int = 0) -> str:
        """A command on the store; with `shows`, its output is that secret."""
        words = [sys.executable, "-m", "registry.cli", *line.split(), "--config", str(self.directory / "condery.toml")]
        done = await asyncio.to_thread(
            subprocess.run,
            words,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, **self.environment},
        )
        assert done.returncode == code, (line, done.stdout, done.stderr)
        self.said.append(done.stderr)
        if shows:
            return self.held.add(shows, done.stdout.strip())
        self.said.append(done.stdout)
        return done.stdout

    async def ask(
        self, method: str, path: str, status: int | None = None, **options: object
    ) -> tuple[bytes, Mapping[str, str]]:
        url = f"{self.server.url}{path}"
        async with self.client.request(method, url, allow_redirects=False, **options) as response:  # type: ignore[arg-type] # as aiohttp takes them
            body = await response.read()
            assert status in (None, response.status), (path, response.status, body)
            return body, response.headers


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": aiohttp.encode_basic_auth(name, password)}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextlib.asynccontextmanager
async def opened(directory: Path, database: str | None, s3: S3Server | None) -> AsyncIterator[Session]:
    held = Secrets()
    channel_login = f"me:{held.make('channel credential')}"
    global_login = f"me:{held.make('global channel credential')}"
    mirror_login = f"me:{held.make('mirror credential')}"
    await make_channel(directory / "own", [Package("private")])
    await make_channel(directory / "shared", [Package("lib")])
    (directory / "data").mkdir()
    (directory / "hook-secret").write_text(held.make("webhook secret"))
    (directory / "client-secret").write_text(held.make("OIDC client secret"))
    (directory / "admin-password").write_text(held.make("administrator's password"))
    (directory / "keys").write_text(held.add("vault key", new_key()))
    (directory / "credentials").write_text(
        json.dumps({"localhost": {"BasicHTTP": {"username": "me", "password": held["global channel credential"]}}})
    )
    async with contextlib.AsyncExitStack() as stack:
        own = await stack.enter_async_context(ChannelServer(directory / "own", _basic(channel_login)))
        shared = await stack.enter_async_context(ChannelServer(directory / "shared", _basic(global_login)))
        upstream = await stack.enter_async_context(scripted_registry())
        upstream.put(APP, FIRST, "latest")
        upstream.behaviour = _wants(_basic(mirror_login))
        issuer = await stack.enter_async_context(Issuer())
        hooks = await stack.enter_async_context(receiving(held["webhook secret"].encode()))
        client = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))

        port = free_port()
        lines = _lines(
            directory, port, [own.url, f"http://localhost:{shared.port}"], upstream.host, hooks.url, issuer.url
        )
        if s3 is not None:
            held.add("S3 secret key", SECRET_KEY)
            lines |= _lines_of_s3(directory, s3)
        environment = {}
        if database is not None:
            # the server of the tests asks for no password, but one may be shown to it
            url = make_url(database).set(password=held.make("password of the database"))
            environment["CONDERY_DATABASE"] = url.render_as_string(hide_password=False)
        config = [f"{name} = {_toml(value)}" for name, value in lines.items()]
        (directory / "condery.toml").write_text("\n".join(config) + "\n")
        server = Server(("--config", str(directory / "condery.toml")), directory / "data", directory / "log", port)
        session = Session(directory, held, server, database, own, upstream, issuer, hooks, client)
        session.environment = environment
        try:
            yield session
        finally:
            if hasattr(server, "process") and server.process.poll() is None:
                await asyncio.to_thread(server.kill)


def _lines(directory: Path, port: int, channels: list[str], mirrored: str, hook: str, issuer: str) -> dict[str, object]:
    """The settings, with everything that has a secret."""
    return {
        "data_directory": str(directory / "data"),
        "port": port,
        "public_url": f"http://127.0.0.1:{port}",
        "base": "scratch",
        "service_name": "condery",
        "channels": channels,
        "credentials": str(directory / "credentials"),
        "mirrors": [mirrored],
        "mirror_internal_hosts": [mirrored],
        "mirror_fresh_for": 0,
        "webhooks": [hook],
        "webhook_secret_file": str(directory / "hook-secret"),
        "oidc_issuer": issuer,
        "oidc_client_id": "condery",
        "oidc_client_secret_file": str(directory / "client-secret"),
        "workload_issuers": [issuer],
        "workload_audience": AUDIENCE,
        "workload_rules": ['sub == "robot" -> viewer on team/*'],
        "admin_password_file": str(directory / "admin-password"),
        "vault_key_file": str(directory / "keys"),
        "failure_memory": 0,
        "login_attempts": 1000,
        "log_level": "debug",
        "audit_pulls": True,
    }


def _lines_of_s3(directory: Path, s3: S3Server) -> dict[str, object]:
    (directory / "s3").write_text(f"{ACCESS_KEY}\n{SECRET_KEY}\n")
    return {
        "s3_bucket": s3.new_bucket(),
        "s3_endpoint": s3.url,
        "s3_region": REGION,
        "s3_credentials": str(directory / "s3"),
    }


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return f"'{value}'"
    return str(value).lower()


def _basic(login: str) -> str:
    return "Basic " + base64.b64encode(login.encode()).decode()


def _wants(authorization: str) -> Behaviour:
    async def behave(request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("Authorization") == authorization:
            return None
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    return behave


async def use_rightly(session: Session) -> None:
    """Make every kind of secret, and use it with success."""
    held, run, ask = session.held, session.run, session.ask
    password = held.make("password")
    await asyncio.to_thread(_start, session)
    await ask("GET", "/v2/", 200, headers=basic("admin", held["administrator's password"]))
    await run("user add alice --admin --no-password", stdin="")
    await run("user passwd alice", stdin=f"{password}\n")
    await run("robot add ci")
    await run("role bind --robot ci *=viewer")
    await run("token create laptop --user alice", shows="access token")
    await run("token create ci --robot ci", shows="robot's token")
    await run("token create gone --robot ci", shows="revoked token")
    listed = await run("token list --robot ci --json")
    revoked = next(each for each in json.loads(listed) if each["name"] == "gone")
    await run(f"token revoke {revoked['id']}")
    await run(
        f"credential set conda-store-dynamic {session.channel.url} --username me",
        stdin=held["channel credential"],
    )
    await run(f"credential set mirror {session.upstream.host} --username me", stdin=held["mirror credential"])
    await run("credential list")
    await run("settings show")
    alice = basic("alice", password)
    await ask("GET", "/v2/", 200, headers=alice)
    await ask("GET", "/v2/", 200, headers=bearer(held["access token"]))
    await ask("GET", "/v2/_catalog", 200, headers=basic("ci", held["robot's token"]))
    await ask("GET", "/v2/", 401, headers=bearer(held["revoked token"]))
    query = "service=condery&scope=repository:team/app:pull,push"
    body, _ = await ask("GET", f"/token?{query}&offline_token=true", 200, headers=alice)
    answer = json.loads(body)
    held.add("registry token", answer["token"])
    held.add("refresh token", answer["refresh_token"])
    form = {"grant_type": "refresh_token", "refresh_token": held["refresh token"], "service": "condery"}
    await ask("POST", "/token", 200, data=form)
    await ask("POST", "/token", 200, data={"grant_type": "password", "username": "alice", "password": password})
    await ask("GET", "/v2/team/app/tags/list", 404, headers=bearer(held["registry token"]))
    body, _ = await ask("POST", "/api/v1/token/", headers=alice, json={"name": "by the API"})
    held.add("token of the API", json.loads(body)["data"]["token"])
    workload = held.add("workload token", session.issuer.token(aud=AUDIENCE, sub="robot"))
    await ask("GET", "/v2/team/app/tags/list", 404, headers=bearer(workload))
    await sign_in(session)
    for name in ("private", "lib"):
        await ask("GET", f"/v2/conda-store-dynamic/{name}/manifests/latest", 200, headers=alice)
    await ask("GET", f"/v2/{session.upstream.mirrored}/{APP}/manifests/latest", 200, headers=alice)
    await ask("POST", "/v2/team/app/blobs/uploads/", 202, headers=alice)


def _start(session: Session) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in session.environment.items():
            patch.setenv(name, value)
        session.server.start()


async def sign_in(session: Session) -> None:
    """With a browser, at the provider."""
    held, issuer = session.held, session.issuer
    _, headers = await session.ask("GET", "/login/provider?next=/v2/", 303)
    asked = {name: values[0] for name, values in parse_qs(urlsplit(headers["Location"]).query).items()}
    began = headers["Set-Cookie"].partition(";")[0]
    held.add("cookie of a sign-in", began.partition("=")[2])
    code = held.make("authorization code")
    issuer.granted[code] = {
        "token_type": "Bearer",
        "access_token": held.make("provider's access token"),
        "refresh_token": held.make("provider's refresh token"),
        "id_token": held.add(
            "identity token",
            issuer.token(aud="condery", nonce=asked["nonce"], sub="carol", preferred_username="carol"),
        ),
    }
    path = f"/login/callback?code={code}&state={asked['state']}"
    _, headers = await session.ask("GET", path, 303, headers={"Cookie": began})
    cookie = headers["Set-Cookie"].partition(";")[0]
    held.add("cookie of a session", cookie.partition("=")[2])
    await session.ask("GET", "/api/v1/permission/", 200, headers={"Cookie": cookie})
    # a code is good for once
    await session.ask("GET", path, headers={"Cookie": began})


FORMED = ("access token", "robot's token", "revoked token", "registry token", "workload token", "token of the API")
"""Those that can be known by their form, wherever they are."""


async def use_wrongly(session: Session, *, every: bool) -> None:
    """Each secret as each kind of credential, or else as the next kind in turn; and where none belongs."""
    held, ask = session.held, session.ask
    for turn, (what, text) in enumerate(list(held.known.items())):
        kinds = (
            basic(text, "wrong"),
            basic("alice", text + "x"),
            basic(text, text),
            bearer(text + "x"),
            {"Authorization": text},
            {"Authorization": f"Token {text}"},
            {"Authorization": f"Basic {text}"},
            {"Cookie": f"__Host-condery={text}; condery={text}; {text}"},
            {"X-Registry-Auth": text, "Origin": f"https://{text[:60]}.example", "User-Agent": text, "Referer": text},
        )
        for headers in kinds if every else kinds[turn % len(kinds) :][:1]:
            await ask("GET", "/v2/team/app/tags/list", headers=headers)
        place = quote(text, safe="")
        await ask("GET", f"/v2/?token={place}&password={place}")
        await ask("GET", f"/token?account=alice&password={place}&client_secret={place}", headers=basic(text, "wrong"))
        await ask("GET", f"/login?next={place}")
        await ask("GET", f"/login/callback?code={place}&state={place}")
        await ask("POST", "/token", data={"grant_type": "refresh_token", "refresh_token": text + "x"})
        await ask("POST", "/token", data={"grant_type": "password", "username": text, "password": "wrong"})
        await ask("POST", "/token", data={"grant_type": "password", "username": "alice", "password": text + "x"})
        await ask("POST", "/api/v1/token/", data=text, headers={"Content-Type": "application/json"})
        if what in FORMED:
            alice = {**basic("alice", held["password"]), "X-Request-ID": text[:128]}
            for path in (
                f"/v2/{text}/manifests/latest",
                f"/v2/team/app/manifests/{text}",
                f"/v2/conda-store-dynamic/{text.lower()}/manifests/latest",
                f"/v2/conda-store-dynamic/lib/manifests/{text}",
                f"/v2/team/app/blobs/{text}",
                f"/{text}",
                f"/api/v1/token/{text}",
                f"/token?client_id={text}&service={text}",
                f"/token?client_id={text}&offline_token=true",
            ):
                await ask("GET", path, headers=alice)
            await ask("DELETE", f"/api/v1/token/{text}/", headers=alice)
            await ask("GET", "/v2/other/app/tags/list", headers={**basic("ci", held["robot's token"]), **alice})


async def fail_elsewhere(session: Session) -> None:
    """Others refuse what they took before, and speak of it."""
    held, ask = session.held, session.ask
    alice = basic("alice", held["password"])

    async def repeat(request: web.Request) -> web.StreamResponse:
        told = request.headers.get("Authorization", "nothing")
        return web.json_response({"errors": [{"code": "DENIED", "message": "no"}], "told": told}, status=403)

    session.upstream.behaviour = repeat
    await ask("GET", f"/v2/{session.upstream.mirrored}/{APP}/manifests/other", headers=alice)
    session.channel.authorization = "Basic other"
    await session.run("credential set conda-store-dynamic " + session.channel.url, stdin=held.make("second credential"))
    await ask("GET", "/v2/conda-store-dynamic/private/manifests/2026-01-01", headers=alice)
    await ask("GET", "/v2/conda-store-dynamic/private/lib/manifests/latest", headers=alice)
    await session.run("credential set team https://x.example/?a=" + held["access token"], stdin="no secret", code=1)
    await session.run("vault rotate")


def read_database(session: Session) -> dict[str, bytes]:
    """Every table as text; of SQLite its files as well."""
    if session.database is None:
        path = session.directory / "data" / "condery.sqlite"
        files = {each.name: each.read_bytes() for each in path.parent.glob("condery.sqlite*")}
        with contextlib.closing(sqlite3.connect(path)) as connection:
            files["dump"] = "\n".join(connection.iterdump()).encode()
        return files
    url = make_url(session.database)
    with psycopg.connect(host=str(url.query["host"]), user=url.username, dbname=url.database) as server:
        names = [
            name for (name,) in server.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        ]
        return {name: repr(server.execute(f'SELECT * FROM "{name}"').fetchall()).encode() for name in names}


def read_command_lines(session: int) -> dict[str, bytes]:
    """Those of the server and of all processes that it started, which are in one session."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # what follows the name, which may have any character: proc(5)
            if int((process / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                found[process.name] = (process / "cmdline").read_bytes()
    return found


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"] if WIDE else ["sqlite"])
async def test_no_secret_shows_anywhere(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    database, s3 = None, None
    if kind == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        database, s3 = postgres.new_database(), request.getfixturevalue("s3_server")
    async with opened(tmp_path, database, s3) as session:
        await use_rightly(session)
        # what is refused is told in the same way whichever database there is
        await use_wrongly(session, every=WIDE or kind == "sqlite")
        await fail_elsewhere(session)
        held = session.held
        lines = await asyncio.to_thread(read_command_lines, session.server.process.pid)
        assert any(b"registry.cli" in line for line in lines.values())
        assert any(b"builder.solve.process" in line for line in lines.values())
        shown = {f"process {pid}": line for pid, line in lines.items()}
        await asyncio.to_thread(session.server.stop)
        shown |= {f"table {name}": rows for name, rows in (await asyncio.to_thread(read_database, session)).items()}
        given = {"hook-secret", "client-secret", "admin-password", "keys", "credentials", "s3"}
        for path in tmp_path.rglob("*"):
            if path.is_file() and path.name not in given and path.parent.name not in ("own", "shared"):
                shown[str(path.relative_to(tmp_path))] = path.read_bytes()
        if s3 is not None:
            shown |= {f"bucket {path.name}": path.read_bytes() for path in s3.directory.rglob("*") if path.is_file()}
        shown["commands"] = "\n".join(session.said).encode()
        shown["webhooks"] = repr(session.hooks.posts).encode()
        assert b'"event":"request"' in shown["log"]
        assert b"manifest.pull" in b"".join(rows for name, rows in shown.items() if name.startswith("table "))
        found = {where: what for where, content in shown.items() if (what := held.find_in(content))}
        assert found == {}, {where: _around(held, what, shown[where]) for where, what in found.items()}


def _around(held: Secrets, found: list[str], content: bytes) -> dict[str, bytes]:
    """The text beside each."""
    told = {}
    for what in found:
        place = next(content.find(each) for each in forms_of(held[what]) if each in content)
        told[what] = content[max(0, place - 160) : place + 60]
    return told
