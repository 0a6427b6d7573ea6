"""The first start: who can sign in to a server that others can reach, and a store of the version before."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect
from structlog.testing import capture_logs

from auth.accounts.account import Account
from auth.accounts.passwords import Passwords
from auth.changing import AccessData
from registry.access.accounts import open_accounts, prepare_first_sign_in
from registry.http.settings import HttpSettings
from registry.settings.model import Settings
from storage.database.engine import migrations
from storage.layout import DataDirectory
from storage.settings import StorageSettings
from storage.store import open_store
from tests.support.auth.opened import TESTER
from tests.support.registry.client import QUIET, Client
from tests.support.registry.pushes import image_manifest
from tests.support.server import Server, StartServer

FOR_OTHERS = ("--public-url", "https://registry.example.org")
FLAGS = (*QUIET, "--log-format", "json")
PRINTED = re.compile(r"condery: there were no accounts; sign in as admin with the password (\S+) within 7 days, .*")


def printed(server: Server) -> list[str]:
    """The passwords that a server printed; every other line of its is JSON."""
    lines = server.log.read_text().splitlines()
    for number, line in enumerate(lines):
        # it stands by itself
        assert not PRINTED.fullmatch(line) or lines[number - 1] == lines[number + 1] == ""
    found = [match[1] for match in map(PRINTED.fullmatch, lines) if match]
    for line in filter(None, lines):
        if not PRINTED.fullmatch(line):
            json.loads(line)
            assert not any(each in line for each in found)
    return found


def settings_for(data: Path, *, for_this_machine: bool) -> Settings:
    http = HttpSettings() if for_this_machine else HttpSettings(host="0.0.0.0")
    return Settings(http=http, storage=StorageSettings(data_directory=data))


async def accounts_in(data: Path) -> list[Account]:
    settings = settings_for(data, for_this_machine=True)
    async with open_store(settings.storage) as store:
        with open_accounts(settings, store) as opened:
            return await opened.accounts.list_all()


async def verify(data: Path, name: str, password: str) -> Account | None:
    async with open_store(StorageSettings(data_directory=data)) as store:
        with Passwords(AccessData(store.database, store.changes), 1) as passwords:
            return await passwords.verify(name, password)


async def test_cve_2026_4404_one_of_several_processes_prints_a_password_once(start_server: StartServer) -> None:
    server = start_server(*FLAGS)
    assert server.stop() == 0
    assert printed(server) == []
    assert await accounts_in(server.data_dir) == [], "nobody else reaches it"
    server.flags = (*FLAGS, *FOR_OTHERS, "--processes", "2")
    for _ in range(2):
        server.start()
        assert server.stop() == 0
    [password] = printed(server)
    [admin] = await accounts_in(server.data_dir)
    found = await verify(server.data_dir, "admin", password)
    assert found is not None
    assert found.id == admin.id
    assert password.encode() not in DataDirectory(server.data_dir).database.read_bytes()


async def test_a_server_that_nobody_administers_says_so(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, for_this_machine=False)
    async with open_store(settings.storage) as store:
        with capture_logs() as logged:
            await prepare_first_sign_in(settings, store)
        assert [line["event"] for line in logged] == ["audit"]
        with open_accounts(settings, store) as opened:
            await opened.accounts.disable("admin", by=TESTER, force=True)
        with capture_logs() as logged:
            await prepare_first_sign_in(settings, store)
    assert [line["event"] for line in logged] == ["nobody who can sign in is admin of everything"]


async def test_a_password_of_a_file_is_printed_nowhere(start_server: StartServer, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("correct horse\n")
    server = start_server(*FLAGS, *FOR_OTHERS, "--admin-password-file", str(path))
    assert server.stop() == 0
    assert printed(server) == []
    assert "correct" not in server.log.read_text()
    assert await verify(server.data_dir, "admin", "correct horse") is not None


def test_without_the_file_it_does_not_start(tmp_path: Path) -> None:
    file = ("--admin-password-file", f"{tmp_path}/none")
    command = [sys.executable, "-m", "registry.cli", "serve", *FLAGS, *FOR_OTHERS, *file, "--port", "0"]
    done = subprocess.run([*command, "--data-dir", f"{tmp_path}/data"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == f"condery: admin_password_file {tmp_path}/none: No such file or directory"


class TestAStoreOfTheVersionBefore:
    """Revision 0006 knew nobody: whoever reached the server could do everything."""

    @pytest.fixture
    def client(self, start_server: StartServer) -> Client:
        """Pushed an image; the server is stopped."""
        client = Client(start_server(*FLAGS))
        push(client, "v1")
        assert client.server.stop() == 0
        downgrade(client.server.data_dir)
        return client

    async def test_is_as_open_as_before_on_this_machine(self, client: Client) -> None:
        client.server.start()
        client.check()
        push(client, "v2")
        client.delete("team/app", "v1")
        client.check()
        assert client.server.stop() == 0
        assert await accounts_in(client.server.data_dir) == []
        assert printed(client.server) == []

    def test_is_closed_to_others(self, client: Client, tmp_path: Path) -> None:
        password = tmp_path / "password"
        password.write_text("correct horse")
        client.server.flags = (*FLAGS, *FOR_OTHERS, "--admin-password-file", str(password))
        client.server.start()
        paths = ("/v2/", "/v2/team/app/tags/list", "/v2/team/app/manifests/v1")
        assert [client.ask("GET", path)[0] for path in paths] == [401, 401, 401]
        assert client.ask("GET", "/v2/_catalog")[2] == b'{"repositories":[]}'
        basic = "Basic " + base64.b64encode(b"admin:correct horse").decode()
        assert [client.ask("GET", path, Authorization=basic)[0] for path in paths] == [200, 200, 200]
        assert client.ask("GET", "/v2/_catalog", Authorization=basic)[2] == b'{"repositories":["team/app"]}'
        assert client.server.stop() == 0


def push(client: Client, tag: str) -> None:
    for blob in (b"{}", tag.encode()):
        assert client.push_whole("team/app", blob) == 201
    assert client.push_manifest("team/app", tag, image_manifest(b"{}", [tag.encode()])) == 201


def downgrade(data: Path) -> None:
    from alembic import command

    engine = create_engine(f"sqlite:///{DataDirectory(data).database}")
    with engine.connect() as connection:
        command.downgrade(migrations(connection), "0006")
        connection.commit()
        assert not inspect(connection).has_table("account")
    engine.dispose()
