from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from builder.channels.channel import Credential, Credentials
from builder.channels.download import _LONG, Downloader, DownloadSettings
from builder.channels.logins import Logins
from builder.channels.part_file import PartFile
from builder.channels.policy import ChannelPolicy
from builder.errors import DownloadFailed, PackageRefused, SolveError
from builder.locks.lock import LockedPackage
from builder.work.claims import Caller, Claim, on_behalf_of
from storage.catalog.credential import NamespaceCredential
from storage.errors import StorageFull
from tests.support.builder.packages import File, Package
from tests.support.servers.channel_server import ChannelServer

SECRET = "s3cret"
BASIC = "Basic " + base64.b64encode(f"u:{SECRET}".encode()).decode()
CREDENTIALS = Credentials({"127.0.0.1": Credential("BasicHTTP", SECRET, "u")})


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    return tmp_path / "channel"


@pytest.fixture
def record(channel: Path) -> LockedPackage:
    """A package of about 300 kB that does not compress."""
    return Package("big", files={"share/big": File(os.urandom(300_000))}).conda(channel).record


@pytest.fixture
async def server(channel: Path) -> AsyncIterator[ChannelServer]:
    async with ChannelServer(channel) as running:
        yield running


def on(server: ChannelServer, record: LockedPackage) -> LockedPackage:
    return replace(record, channel=server.url, url=f"{server.url}/{record.subdir}/{record.file_name}")


def settings(tmp_path: Path, seconds: float = 10, attempts: int = 3) -> DownloadSettings:
    policy = ChannelPolicy(others="all")
    return DownloadSettings(tmp_path / "archives", policy, 4, seconds=seconds, attempts=attempts, backoff=0.001)


def name_part(record: LockedPackage) -> str:
    return f"{record.sha256}.conda.{record.source_key[:16]}.part"


def only_file(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "archives").iterdir())


async def test_fetch_verifies_names_and_reports(tmp_path: Path, server: ChannelServer, record: LockedPackage) -> None:
    seen: list[tuple[int, int | None]] = []
    async with Downloader(settings(tmp_path), Credentials()) as downloader:
        path = await downloader.fetch(on(server, record), lambda done, total: seen.append((done, total)))
        assert path == tmp_path / "archives" / f"{record.sha256}.conda"
        assert hashlib.sha256(path.read_bytes()).hexdigest() == record.sha256
        assert seen[-1] == (record.size, record.size)
        assert await downloader.fetch(on(server, record)) == path
    assert len(server.requests) == 1, "what is there is not asked for again"
    assert only_file(tmp_path) == [path.name]


async def test_one_download_for_many_who_ask(tmp_path: Path, server: ChannelServer, record: LockedPackage) -> None:
    async with Downloader(settings(tmp_path), Credentials()) as downloader:
        paths = await asyncio.gather(*(downloader.fetch(on(server, record)) for _ in range(20)))
    assert len(set(paths)) == 1
    assert len(server.requests) == 1


async def test_two_processes_write_one_archive(tmp_path: Path, server: ChannelServer, record: LockedPackage) -> None:
    """Two downloaders share nothing but the directory, as two processes do."""
    server.fail(record.file_name, cut_after=1000)
    async with (
        Downloader(settings(tmp_path), Credentials()) as one,
        Downloader(settings(tmp_path), Credentials()) as two,
    ):
        paths = await asyncio.gather(one.fetch(on(server, record)), two.fetch(on(server, record)))
    assert paths[0] == paths[1]
    assert hashlib.sha256(paths[0].read_bytes()).hexdigest() == record.sha256
    assert [request.status for request in server.requests] == [200, 206]


@pytest.mark.parametrize("processes", [1, 2])
async def test_a_channel_that_lists_the_hash_of_another_neither_holds_up_nor_fails_it(
    tmp_path: Path, channel: Path, server: ChannelServer, record: LockedPackage, processes: int
) -> None:
    async with ChannelServer(channel) as hostile, contextlib.AsyncExitStack() as opened:
        held = hostile.hold(record.file_name)
        hostile.fail(record.file_name, status=404)
        downloaders = [
            await opened.enter_async_context(Downloader(settings(tmp_path), Credentials())) for _ in range(processes)
        ]
        theirs = asyncio.create_task(downloaders[0].fetch(on(hostile, record)))
        try:
            assert await asyncio.to_thread(held.reached.wait, 30)
            async with asyncio.timeout(60):
                path = await downloaders[-1].fetch(on(server, record))
            assert hashlib.sha256(path.read_bytes()).hexdigest() == record.sha256
            assert not theirs.done()
        finally:
            held.released.set()
            [outcome] = await asyncio.gather(theirs, return_exceptions=True)
        assert isinstance(outcome, DownloadFailed)


async def test_a_record_with_another_size_fails_alone(
    tmp_path: Path, server: ChannelServer, record: LockedPackage
) -> None:
    right = on(server, record)
    wrong = [replace(right, size=1000), replace(right, size=1_000_000)]
    async with Downloader(settings(tmp_path), Credentials()) as downloader:
        outcomes = await asyncio.gather(*map(downloader.fetch, [*wrong, right]), return_exceptions=True)
    assert all(isinstance(each, (PackageRefused, DownloadFailed)) for each in outcomes[:2])
    assert isinstance(outcomes[2], Path)


async def test_broken_connections_are_resumed(tmp_path: Path, server: ChannelServer, record: LockedPackage) -> None:
    server.fail(record.file_name, cut_after=100_000, times=2)
    async with Downloader(settings(tmp_path), Credentials()) as downloader:
        path = await downloader.fetch(on(server, record))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == record.sha256
    assert [request.headers.get("Range") for request in server.requests] == [None, "bytes=100000-", "bytes=200000-"]
    assert all(request.headers["If-Range"].startswith('"') for request in server.requests[1:])


async def test_a_later_process_resumes(tmp_path: Path, server: ChannelServer, record: LockedPackage) -> None:
    server.fail(record.file_name, cut_after=100_000)
    server.fail(record.file_name, status=503, times=9)
    async with Downloader(settings(tmp_path), Credentials()) as downloader:
        with pytest.raises(DownloadFailed, match="503") as caught:
            await downloader.fetch(on(server, record))
    assert caught.value.transient
    assert only_file(tmp_path) == [name_part(on(server, record))], "never under its final name"
    server.faults.clear()
    async with Downloader(settings(tmp_path), Credentials()) as downloader:
        path = await downloader.fetch(on(server, record))
    assert server.requests[-1].headers["Range"] == "bytes=100000-"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == record.sha256


async def test_a_part_of_something_else_is_thrown_away(
    tmp_path: Path, server: ChannelServer, record: LockedPackage
) -> None:
    (tmp_path / "archives").mkdir()
    for length in (1000, record.size or 0, 1_000_000):
        (tmp_path / "archives" / name_part(on(server, record))).write_bytes(b"x" * length)
        async with Downloader(settings(tmp_path), Credentials()) as downloader:
            path = await downloader.fetch(on(server, record))
        assert hashlib.sha256(path.read_bytes()).hexdigest() == record.sha256
        path.unlink()


async def test_an_archive_that_changes_while_it_comes(
    tmp_path: Path, channel: Path, server: ChannelServer, record: LockedPackage
) -> None:
    """If-Range makes the server send all of the new file; its hash is not the record's."""
    server.fail(record.file_name, cut_after=100_000)
    replaced = False

    def replace_file(_done: int, _size: int | None) -> None:
        nonlocal replaced
        if not replaced:
            replaced = True
            (channel / record.subdir / record.file_name).write_bytes(os.urandom(record.size or 0))

    async with Downloader(settings(tmp_path), Credentials()) as downloader:
        with pytest.raises(PackageRefused, match="sha256"):
            await downloader.fetch(on(server, record), replace_file)
    assert [request.status for request in server.requests] == [200, 200]


async def test_a_server_without_ranges(tmp_path: Path, server: ChannelServer, record: LockedPackage) -> None:
    server.ranges = False
    server.fail(record.file_name, cut_after=100_000)
    async with Downloader(settings(tmp_path), Credentials()) as downloader:
        path = await downloader.fetch(on(server, record))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == record.sha256


async def test_a_silent_server_is_given_up(tmp_path: Path, server: ChannelServer, record: LockedPackage) -> None:
    server.fail(record.file_name, cut_after=100_000, stall=True)
    async with Downloader(settings(tmp_path, seconds=0.2), Credentials()) as downloader:
        path = await downloader.fetch(on(server, record))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == record.sha256
    assert server.requests[-1].headers["Range"] == "bytes=100000-"


@pytest.mark.parametrize("status", [404, 403, 500])
async def test_refusals(tmp_path: Path, server: ChannelServer, record: LockedPackage, status: int) -> None:
    server.fail(record.file_name, status=status, times=99)
    async with Downloader(settings(tmp_path), Credentials()) as downloader:
        with pytest.raises(DownloadFailed, match=f"{record.file_name}.* answers {status}"):
            await downloader.fetch(on(server, record))
    assert len(server.requests) == (3 if status == 500 else 1)


async def test_an_unreachable_server(tmp_path: Path, channel: Path, record: LockedPackage) -> None:
    async with ChannelServer(channel) as server:
        gone = on(server, record)
    async with Downloader(settings(tmp_path), Credentials()) as downloader:
        with pytest.raises(DownloadFailed, match=r"127.0.0.1"):
            await downloader.fetch(gone)


async def test_wrong_hash(tmp_path: Path, server: ChannelServer, record: LockedPackage) -> None:
    lying = replace(on(server, record), sha256="0" * 64)
    async with Downloader(settings(tmp_path), Credentials()) as downloader:
        with pytest.raises(PackageRefused, match=f"{record.sha256}.*{'0' * 64}"):
            await downloader.fetch(lying)
    assert only_file(tmp_path) == []


async def test_truncated_on_the_server(tmp_path: Path, server: ChannelServer, record: LockedPackage) -> None:
    assert record.size
    async with Downloader(settings(tmp_path), Credentials()) as downloader:
        with pytest.raises(DownloadFailed, match=str(record.size)):
            await downloader.fetch(replace(on(server, record), size=record.size + 1))


async def test_longer_than_its_record(tmp_path: Path, server: ChannelServer, record: LockedPackage) -> None:
    async with Downloader(settings(tmp_path), Credentials()) as downloader:
        with pytest.raises(PackageRefused, match="says 1000"):
            await downloader.fetch(replace(on(server, record), size=1000))
    assert only_file(tmp_path) == []


async def test_old_records(tmp_path: Path, channel: Path, server: ChannelServer) -> None:
    """Only an md5, no size, .tar.bz2."""
    made = Package("old", files={"share/old": b"old"}).tar_bz2(channel)
    record = replace(on(server, made.record), sha256=None, size=None)
    async with Downloader(settings(tmp_path), Credentials()) as downloader:
        path = await downloader.fetch(record)
        assert path.name == f"md5-{record.md5}.tar.bz2"
        assert path.read_bytes() == made.path.read_bytes()
        with pytest.raises(PackageRefused, match="md5"):
            await downloader.fetch(replace(record, md5="0" * 32))
        with pytest.raises(PackageRefused, match="neither sha256 nor md5"):
            await downloader.fetch(replace(record, md5=None))
        with pytest.raises(PackageRefused, match=r"neither a .conda nor"):
            await downloader.fetch(replace(record, file_name="old.whl", md5="1" * 32))


async def test_local_channels_are_used_in_place(tmp_path: Path, channel: Path) -> None:
    made = Package("a b", files={"share/a": b"a"}).conda(channel)
    async with Downloader(settings(tmp_path), Credentials()) as downloader:
        assert await downloader.fetch(made.record) == made.path
        with pytest.raises(PackageRefused, match="bytes"):
            await downloader.fetch(replace(made.record, size=1))
        made.path.unlink()
        with pytest.raises(DownloadFailed, match="No such file"):
            await downloader.fetch(made.record)


async def test_credentials_go_to_their_host_alone(tmp_path: Path, channel: Path, record: LockedPackage) -> None:
    async with ChannelServer(channel, authorization=BASIC) as private, ChannelServer(channel) as mirror:
        async with Downloader(settings(tmp_path), CREDENTIALS) as downloader:
            await downloader.fetch(on(private, record))
        assert private.requests[-1].headers["Authorization"] == BASIC
        (tmp_path / "archives" / f"{record.sha256}.conda").unlink()
        elsewhere = f"http://localhost:{mirror.port}/{record.subdir}/{record.file_name}"
        private.fail(record.file_name, redirect=elsewhere)
        named = ChannelPolicy((private.url, f"http://localhost:{mirror.port}"))
        async with Downloader(replace(settings(tmp_path), policy=named), CREDENTIALS) as downloader:
            await downloader.fetch(on(private, record))
        assert "Authorization" not in mirror.requests[-1].headers


async def test_wrong_credentials(tmp_path: Path, channel: Path, record: LockedPackage) -> None:
    async with ChannelServer(channel, authorization="Basic other") as private:
        async with Downloader(settings(tmp_path), CREDENTIALS) as downloader:
            with pytest.raises(DownloadFailed, match=r"401.*credentials") as caught:
                await downloader.fetch(on(private, record))
    assert SECRET not in str(caught.value)
    assert len(private.requests) == 1


@contextlib.asynccontextmanager
async def answering(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("owned", [False, True])
async def test_a_channel_that_repeats_what_it_got_shows_no_secret(
    tmp_path: Path, record: LockedPackage, owned: bool
) -> None:
    """Neither in the error nor, where it redirects, in the log."""
    secret = "s3cret of-the=channel"

    async def repeat(request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/elsewhere"):
            return web.Response(status=403)
        shown = request.headers["Authorization"].split()[1]
        told = f"{shown.rstrip('=')} {quote(shown)} {base64.b64decode(shown).decode()}"
        if "away" in request.path:
            location = f"http://localhost:{request.url.port}/elsewhere/{quote(told, safe='')}"
            return web.Response(status=307, headers={"Location": location})
        return web.Response(status=403, reason=told)

    said = ""
    async with answering(repeat) as url:
        held = NamespaceCredential("1", "team", "channel", f"{url}/", "basic", secret, "u")
        logins = Logins.of("team", [held] if owned else [])
        credentials = Credentials({} if owned else {"127.0.0.1": Credential("BasicHTTP", secret, "u")})
        policy = ChannelPolicy((url, url.replace("127.0.0.1", "localhost")))
        async with Downloader(replace(settings(tmp_path), policy=policy), credentials) as downloader:
            for folder in ("here", "away"):
                package = replace(record, channel=url, url=f"{url}/{folder}/{record.file_name}")
                with capture_logs() as logged, pytest.raises(DownloadFailed) as caught:
                    await downloader.fetch(package, logins=logins)
                said += f"{caught.value} {logged}"
                assert "***" in f"{caught.value} {logged}"
    pair = base64.b64encode(f"u:{secret}".encode()).decode()
    for form in (secret, quote(secret, safe=""), pair, pair[4:-4], quote(pair)):
        assert form not in said


async def test_a_conda_token_goes_into_the_path(tmp_path: Path, channel: Path, record: LockedPackage) -> None:
    async with ChannelServer(channel) as server:
        server.fail(record.file_name, redirect=f"{server.url}/{record.subdir}/{record.file_name}")
        credentials = Credentials({"127.0.0.1": Credential("CondaToken", "tk-1")})
        async with Downloader(settings(tmp_path), credentials) as downloader:
            with pytest.raises(DownloadFailed, match="404") as caught:
                await downloader.fetch(on(server, record))
    assert [request.path for request in server.requests] == [f"/t/tk-1/{record.subdir}/{record.file_name}"] * 2
    assert "tk-1" not in str(caught.value)


@pytest.mark.parametrize(("target", "reason"), [("file:///etc/passwd", "file:"), ("{self}", "10 redirects")])
async def test_redirects_that_are_not_followed(
    tmp_path: Path, server: ChannelServer, record: LockedPackage, target: str, reason: str
) -> None:
    package = on(server, record)
    server.fail(record.file_name, redirect=target.format(self=package.url), times=99)
    async with Downloader(settings(tmp_path, attempts=1), Credentials()) as downloader:
        with pytest.raises(DownloadFailed, match=reason):
            await downloader.fetch(package)


async def test_a_full_disk(
    tmp_path: Path, server: ChannelServer, record: LockedPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_part: PartFile, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with Downloader(settings(tmp_path), Credentials()) as downloader:
        with monkeypatch.context() as patch:
            patch.setattr(PartFile, "append", full)
            with pytest.raises(StorageFull, match=record.file_name):
                await downloader.fetch(on(server, record))
        assert only_file(tmp_path) == [], "what fills the disk is removed"
        await downloader.fetch(on(server, record))


async def test_oci_channels(tmp_path: Path, channel: Path, record: LockedPackage) -> None:
    package = replace(record, url=f"oci://ghcr.io/mirrors/{record.subdir}/{record.file_name}")

    async def fetch(url: str, path: Path, _logins: Logins) -> None:
        assert url == package.url
        path.write_bytes((channel / record.subdir / record.file_name).read_bytes())

    async def fail(url: str, path: Path, _logins: Logins) -> None:
        raise SolveError(f"no answer from https://u:{SECRET}@ghcr.io")

    async with Downloader(settings(tmp_path), CREDENTIALS, fail) as downloader:
        with pytest.raises(DownloadFailed, match="no answer") as caught:
            await downloader.fetch(package)
        assert SECRET not in str(caught.value)
    async with Downloader(settings(tmp_path), Credentials(), fetch) as downloader:
        path = await downloader.fetch(package)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == record.sha256
        with pytest.raises(PackageRefused, match="sha256"):
            await downloader.fetch(replace(package, sha256="1" * 64))


class Dripping(ChannelServer):
    """Ignores Range, and takes SECONDS for an archive whose path has `drip`."""

    SECONDS = 1.0

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if "drip" not in request.path:
            return await super()._answer(request)
        body = (self.directory / request.path.lstrip("/")).read_bytes()
        self._note(request, 200)
        response = web.StreamResponse(headers={"Content-Length": str(len(body))})
        await response.prepare(request)
        for start in range(0, len(body), len(body) // 20 + 1):
            await response.write(body[start : start + len(body) // 20 + 1])
            await asyncio.sleep(self.SECONDS / 20)
        return response


async def test_a_server_without_ranges_brings_an_archive_to_its_end_though_others_wait(
    tmp_path: Path, channel: Path
) -> None:
    """The long slots are taken, so two such archives take turns in the one that is left."""
    async with Dripping(channel) as server, asyncio.timeout(60):
        records = {
            name: on(server, Package(name, files={"share/a": File(os.urandom(100_000))}).conda(channel).record)
            for name in (*(f"stuck-{number}" for number in range(_LONG)), "drip-a", "drip-b")
        }
        held = server.hold(".conda")
        limits = replace(settings(tmp_path, seconds=60), limit=1, patience=0.1)
        async with Downloader(limits, Credentials()) as downloader:
            tasks = {}
            for name in records:
                with on_behalf_of(Claim(Caller(name), lasting=True)):
                    tasks[name] = asyncio.create_task(downloader.fetch(records[name]))
                await asyncio.sleep(0.2)
            await asyncio.gather(tasks["drip-a"], tasks["drip-b"])
            asked = [len(server.seen(records[name].file_name)) for name in ("drip-a", "drip-b")]
            assert max(asked) > 1, "they gave way to each other"
            assert max(asked) < 8
            held.released.set()
            await asyncio.gather(*tasks.values())
