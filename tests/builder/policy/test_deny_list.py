"""The deny list: what is read holds until something better comes, and nothing is allowed before."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from builder.channels.channel import Credential, Credentials
from builder.errors import PolicyRefusal, PolicyUnavailable
from builder.policy import deny_list as module
from builder.policy import deny_list_text
from builder.policy.deny_list import SIGHTS, DenyList
from builder.policy.deny_list_text import parse_deny_list
from builder.policy.settings import PolicySettings
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel, open_service, spec_of

ALIAS = "https://conda.example.org"
ONE = b"openssl <3.0.7 # CVE-2022-3602\n"
TWO = ONE + b"xz 5.6.0|5.6.1 # CVE-2024-3094\n"
HOUR = 3600.0


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (TWO, ["openssl <3.0.7 # CVE-2022-3602", "xz 5.6.0|5.6.1 # CVE-2024-3094"]),
        (b"# nothing yet\n", []),
        (b"[]", []),
        (b'[{"package": "xz", "versions": "5.6.0"}, "left-pad"]', ["xz 5.6.0", "left-pad"]),
        (b'\n{"package": "xz"}\n\n  # why\r\nleft-pad # use ljust\n', ["xz", "left-pad # use ljust"]),
        (b"# condery deny list\nleft-pad\nxz 5.6.0\n", ["left-pad", "xz 5.6.0"]),
        (b"#Condery Deny List, 2 entries\r\nleft-pad\r\nxz 5.6.0\r\n", ["left-pad", "xz 5.6.0"]),
        (b"left-pad *\nxz >=0\n", ["left-pad *", "xz >=0"]),
    ],
)
def test_forms(content: bytes, lines: list[str]) -> None:
    assert [each.line for each in parse_deny_list(content, ALIAS)] == lines


BROKEN = [
    (b"", "it is empty"),
    (b" \n", "it is empty"),
    (b"\xff", "not UTF-8"),
    (b"xz ==5.6.0\nopenssl <<3\n", "line 2: "),
    (b"<!doctype html>\n<html>", "line 1: "),
    (b'[{"package": "xz"', "JSON"),
    (b'[{"package": "xz", "version": "1"}]', "entry 1: 'version' is not a field"),
    (b'[{"package": "xz", "package": "zx"}]', "JSON"),
    (b"[1]", "entry 1: "),
    (b"OK", "line 1: 'OK' could be what a server says that has no list"),
    (b"null\n", "line 1: "),
    (b"maintenance\n", "line 1: "),
    (b"not found", "line 1: "),
    (b"error 503", "line 1: "),
    (b"Service unavailable 503", "line 1: "),
    (b"# 404\nnot found\n", "line 2: "),
    (b"# condery deny list, 3 entries\nopenssl <3\nxz 5.6.0\n", "it has 2 entries, and says that it has 3"),
    (b"conda-forge/linux-64::openssl <3", "line 1: the channel 'conda-forge/linux-64' ends in a platform"),
    (b"https://conda.example.org/a/noarch::openssl <3", "line 1: the channel .* ends in a platform"),
    (b"defaults::openssl <3", "line 1: defaults stands for several channels"),
    (b'{"package": "xz"', "line 1: "),
]


@pytest.mark.parametrize(("content", "problem"), BROKEN)
def test_broken_lists(content: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_deny_list(content, ALIAS)


def test_a_list_of_too_many_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deny_list_text, "MOST_LINES", 1)
    with pytest.raises(ValueError, match="it has 2 entries; at most 1"):
        parse_deny_list(TWO, ALIAS)


def reading(
    place: str, folder: Path, *, refresh: float = HOUR, credentials: Credentials | None = None
) -> contextlib.AbstractAsyncContextManager[DenyList]:
    return DenyList.open(place, refresh, folder, ALIAS, credentials or Credentials())


def lines(found: DenyList) -> list[str]:
    return [each.line for each in found.rules.denied_packages]


async def test_a_file_is_read_again(tmp_path: Path) -> None:
    place = tmp_path / "list"
    place.write_bytes(ONE)
    async with reading(str(place), tmp_path / "policy") as found:
        assert len(lines(found)) == 1
        assert found.status == "ok"
        assert not await found.refresh(0)
        place.write_bytes(TWO)
        assert await found.refresh(0)
        assert len(lines(found)) == 2


@pytest.mark.parametrize(("content", "problem"), BROKEN)
async def test_a_broken_list_opens_nothing(tmp_path: Path, content: bytes, problem: str) -> None:
    place = tmp_path / "list"
    place.write_bytes(content)
    async with reading(str(place), tmp_path / "other") as found:
        with pytest.raises(
            PolicyUnavailable, match=f"deny list .* cannot be used, so nothing can be built .*{problem}"
        ):
            _ = found.rules
        assert found.status.startswith("never read")
    place.write_bytes(ONE)
    async with reading(str(place), tmp_path / "policy") as found:
        place.write_bytes(content)
        assert not await found.refresh(0)
        assert len(lines(found)) == 1
        assert found.status == "kept, since it cannot be read"
    # and after a restart
    async with reading(str(place), tmp_path / "policy") as found:
        assert len(lines(found)) == 1
        place.unlink()
        assert not await found.refresh(0)
        assert len(lines(found)) == 1


async def test_a_list_of_another_place_is_another(tmp_path: Path) -> None:
    place = tmp_path / "list"
    place.write_bytes(ONE)
    async with reading(str(place), tmp_path / "policy") as found:
        assert lines(found)
    async with reading(str(tmp_path / "nothing"), tmp_path / "policy") as found:
        with pytest.raises(PolicyUnavailable, match="No such file"):
            _ = found.rules


async def test_a_list_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "list"
    place.write_bytes(TWO)
    monkeypatch.setattr(module, "LARGEST", len(TWO) - 1)
    async with reading(str(place), tmp_path / "policy") as found:
        with pytest.raises(PolicyUnavailable, match="it has more than"):
            _ = found.rules


class ListServer:
    """A web server with a list; `answer` is what it says next."""

    def __init__(self) -> None:
        self.content = ONE
        self.status = 200
        self.location = ""
        self.asked: list[dict[str, str]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append({"path": request.path, "auth": request.headers.get("Authorization", "")})
        if self.location and request.path == "/list":
            return web.Response(status=302, headers={"Location": self.location})
        return web.Response(status=self.status, body=self.content)


@pytest.fixture
async def server() -> AsyncIterator[tuple[ListServer, str]]:
    running = ListServer()
    app = web.Application()
    app.router.add_get("/{path:.*}", running.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield running, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_an_address(server: tuple[ListServer, str], tmp_path: Path) -> None:
    running, url = server
    async with reading(f"{url}/list", tmp_path / "policy") as found:
        assert len(lines(found)) == 1
        running.content = TWO
        assert await found.refresh(0)
        assert len(lines(found)) == 2
        for status in (404, 500, 204):
            running.status = status
            assert not await found.refresh(0)
            assert len(lines(found)) == 2
            assert found.status == "kept, since it cannot be read"
        running.status = 200
        assert not await found.refresh(0)
        assert found.status == "ok"


async def test_what_another_process_has_just_fetched_is_taken(server: tuple[ListServer, str], tmp_path: Path) -> None:
    running, url = server
    async with reading(f"{url}/list", tmp_path / "policy") as found:
        async with reading(f"{url}/list", tmp_path / "policy") as other:
            running.content = TWO
            assert await other.refresh(0)
        asked = len(running.asked)
        assert await found.refresh(HOUR)
        assert len(running.asked) == asked
        assert len(lines(found)) == 2


@pytest.mark.parametrize("ahead", [-HOUR, HOUR, 365 * 24 * HOUR])
async def test_a_copy_of_the_future_is_not_young(server: tuple[ListServer, str], tmp_path: Path, ahead: float) -> None:
    """A clock that was ahead wrote it, and would stop all fetching until that time comes."""
    running, url = server
    async with reading(f"{url}/list", tmp_path / "policy") as found:
        (copy,) = (tmp_path / "policy").glob("deny-list-*[0-9a-f]")
        os.utime(copy, (time.time() + ahead,) * 2)
        running.content = TWO
        assert await found.refresh(HOUR)
        assert len(lines(found)) == 2


MANY = b"".join(b"package-%d <2 # CVE-%d\n" % (number, number) for number in range(10))


@pytest.mark.parametrize("content", [b"[]", b"# nothing\n", MANY[: len(MANY) // 3 + 8], b"package-1 <2 # CVE\n"])
async def test_a_list_that_lacks_most_holds_when_it_was_seen_several_times(
    server: tuple[ListServer, str], tmp_path: Path, content: bytes
) -> None:
    running, url = server
    running.content = MANY
    async with reading(f"{url}/list", tmp_path / "policy") as found:
        for given in (content, MANY, content):
            # what comes back between starts again
            running.content = given
            assert not await found.refresh(0)
            assert len(lines(found)) == 10
        for _ in range(SIGHTS - 2):
            assert not await found.refresh(0)
            assert found.status == "kept, since the new one lacks most of it"
    running.content = b"# other words\n" + content
    async with reading(f"{url}/list", tmp_path / "policy") as found:
        assert len(lines(found)) == 10
        running.content = content
        for _ in range(SIGHTS - 1):
            assert not await found.refresh(0)
        assert await found.refresh(0)
        assert len(lines(found)) < 5
        assert found.status == "ok"
        async with reading(f"{url}/list", tmp_path / "policy") as other:
            assert lines(other) == lines(found)


async def test_a_list_that_says_its_length_holds_at_once(server: tuple[ListServer, str], tmp_path: Path) -> None:
    running, url = server
    running.content = MANY
    async with reading(f"{url}/list", tmp_path / "policy") as found:
        running.content = b"# condery deny list, 1 entry\nxz\n"
        assert await found.refresh(0)
        assert lines(found) == ["xz"]


async def test_what_another_process_took_holds(server: tuple[ListServer, str], tmp_path: Path) -> None:
    running, url = server
    running.content = MANY
    async with (
        reading(f"{url}/list", tmp_path / "policy") as found,
        reading(f"{url}/list", tmp_path / "policy") as other,
    ):
        running.content = b"[]"
        for _ in range(SIGHTS):
            await found.refresh(0)
        assert await other.refresh(HOUR)
        assert lines(other) == []


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        ("HTTP/1.0 200 OK\r\n\r\n", "does not say how long it is"),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", "does not say how long it is"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n", "cannot be fetched"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 31\r\nContent-Type: text/html; charset=utf-8\r\n\r\n", "a page"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 31\r\nContent-Type: application/xhtml+xml\r\n\r\n", "a page"),
    ],
)
async def test_half_a_list_and_pages_are_none(tmp_path: Path, head: str, problem: str) -> None:
    assert len(ONE) == 31

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head.encode() + ONE)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as running:
        place = f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}/list"
        async with reading(place, tmp_path / "policy") as found:
            with pytest.raises(PolicyUnavailable, match=problem):
                _ = found.rules


async def test_redirects(server: tuple[ListServer, str], tmp_path: Path) -> None:
    running, url = server
    running.location = "/elsewhere"
    async with reading(f"{url}/list", tmp_path / "policy") as found:
        assert len(lines(found)) == 1
    for location, problem in (
        ("http://169.254.169.254/latest/", "refers to 169.254.169.254, which has an internal address"),
        ("http://127.0.0.1:1/", "refers to 127.0.0.1:1, which has an internal address"),
        ("file:///etc/passwd", "redirects from https to something else"),
        ("/list", "redirects without end"),
    ):
        running.location = location
        async with reading(f"{url}/list", tmp_path / location.replace("/", "-")) as found:
            with pytest.raises(PolicyUnavailable, match=problem):
                _ = found.rules


async def test_credentials_go_to_the_own_server_alone(server: tuple[ListServer, str], tmp_path: Path) -> None:
    running, url = server
    credentials = Credentials(
        {"127.0.0.1": Credential("BearerToken", "s3cret"), "localhost": Credential("BearerToken", "x")}
    )
    async with reading(f"{url}/list", tmp_path / "policy", credentials=credentials) as found:
        assert lines(found)
    assert running.asked[-1]["auth"] == "Bearer s3cret"
    running.location = f"http://localhost:{url.rpartition(':')[2]}/elsewhere"
    async with reading(f"{url}/list", tmp_path / "other", credentials=credentials) as found:
        with pytest.raises(PolicyUnavailable, match="refers to localhost"):
            _ = found.rules


async def test_what_a_server_repeats_of_a_credential_is_not_shown(
    server: tuple[ListServer, str], tmp_path: Path
) -> None:
    running, url = server
    running.location = "http://169.254.169.254/"
    credentials = Credentials({"127.0.0.1": Credential("BearerToken", "169.254.169.254")})
    with capture_logs() as logged:
        async with reading(f"{url}/list", tmp_path / "policy", credentials=credentials) as found:
            with pytest.raises(PolicyUnavailable, match=r"refers to \*\*\*, which") as caught:
                _ = found.rules
    assert "169.254" not in f"{caught.value} {logged}"


async def test_a_server_with_a_list(tmp_path: Path) -> None:
    channel = await make_channel(tmp_path / "channel", [Package("lib", "1.0"), Package("lib", "2.0")])
    place = tmp_path / "list.json"
    place.write_text(json.dumps([{"package": "lib", "versions": ">=2", "reason": "CVE-1"}]))
    rules = PolicySettings(deny_list=str(place))
    name = "conda-store-dynamic/lib"
    async with open_service(tmp_path / "data", channel, rules=rules) as service:
        image = await (await service.demand.image(name, "latest")).wait(60)
        assert image is not None
        tag = f"lock-{image.lock_key[:12]}"
        deny_list = service.builder.admission.policies.deny_list
        assert deny_list is not None
        place.write_text(json.dumps([{"package": "lib", "versions": "<2", "reason": "CVE-2"}]))
        assert await deny_list.refresh(0)
        with pytest.raises(PolicyRefusal, match=r"lib-1\.0-0 is denied by the deny list: lib <2: CVE-2"):
            await service.demand.image(name, tag)
        other = await (await service.demand.image(name, "latest")).wait(60)
        assert other is not None
        assert other.lock_key != image.lock_key
    place.write_text("broken <<<\n")
    async with open_service(tmp_path / "new-data", channel, rules=rules) as service:
        with pytest.raises(PolicyUnavailable, match="line 1"):
            await service.demand.image(name, "latest")
        with pytest.raises(PolicyUnavailable, match="line 1"):
            await service.build(spec_of(service, "lib"))
