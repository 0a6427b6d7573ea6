"""What is made with a namespace's credentials is that namespace's alone, whatever others know of it."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from builder.channels.logins import Logins
from builder.errors import BuilderError, BuildFailed, ChannelUnavailable, DownloadFailed, InvalidImageName, UnknownLock
from builder.locks.lock import Lock
from builder.names.spec import EnvironmentSpec
from builder.policy.policy import NO_POLICY
from builder.queue.job import Job
from builder.service import BuilderService
from builder.solve import own
from storage.catalog.credential import Form, NamespaceCredential
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel, open_service
from tests.support.servers.channel_server import ChannelServer

ROOT = "conda-store-dynamic"
SECRET = "hunter2-of-the-channel"
NAME = f"{ROOT}/private"
BASIC = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()


@dataclass
class Held:
    """The credentials of namespaces, changed at once."""

    held: list[NamespaceCredential] = field(default_factory=list)
    count: int = 0

    def put(self, namespace: str, address: str, secret: str = SECRET, form: Form = "basic") -> None:
        self.count += 1
        self.held = [each for each in self.held if each.namespace != namespace]
        self.held.append(NamespaceCredential(f"{self.count}", namespace, "channel", address, form, secret, "me"))

    async def find(self, namespace: str) -> Sequence[NamespaceCredential]:
        return [each for each in self.held if each.namespace == namespace]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ChannelServer]:
    """A channel that wants a login."""
    await make_channel(tmp_path / "channel", [Package("private", files={"secret.txt": b"nobody else's"})])
    async with ChannelServer(tmp_path / "channel", authorization=BASIC) as running:
        yield running


@pytest.fixture
def held(server: ChannelServer) -> Held:
    held = Held()
    held.put(ROOT, f"{server.url}/")
    return held


@pytest.fixture
async def service(tmp_path: Path, server: ChannelServer, held: Held) -> AsyncIterator[BuilderService]:
    async with open_service(tmp_path / "data", server.url, credentials=held) as opened:
        yield opened


async def pull(service: BuilderService, name: str = NAME, tag: str = "latest") -> Lock:
    image = await (await service.demand.image(name, tag)).wait(None)
    assert image is not None
    document = await service.builder.catalog.locks.find(image.lock_key)
    assert document is not None
    return Lock.from_json(document)


async def solve(service: BuilderService, spec: EnvironmentSpec, namespace: str) -> Lock:
    """As a build of `namespace` does."""
    spec = await service.builder.logins.give_owner(spec, namespace)
    return await service.builder.lock(Job("image", spec))


async def test_its_builds_read_the_channel(service: BuilderService, server: ChannelServer) -> None:
    lock = await pull(service)
    (package,) = lock.packages["linux-64"]
    assert (lock.spec.owner, package.owner) == (ROOT, ROOT)
    assert package.archive_key != package.sha256
    assert SECRET not in str(lock.to_json())
    assert await service.demand.tags(NAME) == ["latest", f"lock-{lock.key[:12]}"]
    assert (await pull(service, tag=f"lock-{lock.key[:12]}")).key == lock.key


async def test_the_secret_is_in_no_file_and_on_no_command_line(service: BuilderService, tmp_path: Path) -> None:
    await pull(service)
    needles = [SECRET, BASIC.removeprefix("Basic ")]
    for path in (tmp_path / "data").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert [each for each in needles if each.encode() in content] == [], path
    for each in Path("/proc").glob("[0-9]*"):
        try:
            shown = (each / "cmdline").read_bytes()
            parent = (each / "stat").read_text().rpartition(")")[2].split()[1]
            if parent == str(os.getpid()):
                shown += (each / "environ").read_bytes()
        except OSError:
            continue
        assert SECRET.encode() not in shown


async def test_another_namespace_gets_nothing_of_it(service: BuilderService, server: ChannelServer) -> None:
    """Not the index that is in memory and on disk, not the solve, not the lock, not the archive by its hash."""
    lock = await pull(service)
    spec = replace(lock.spec, owner="")
    for namespace in ("others", ""):
        with pytest.raises(ChannelUnavailable, match="answers 401"):
            await solve(service, spec, namespace)
    (package,) = lock.packages["linux-64"]
    stolen = replace(package, owner="")
    with pytest.raises(DownloadFailed, match="answers 401"):
        await service.builder.downloader.fetch(stolen)
    logins = await service.builder.logins.find("others")
    with pytest.raises(DownloadFailed, match="answers 401"):
        await service.builder.downloader.fetch(replace(package, owner="others"), logins=logins)


async def test_a_namespace_with_a_wrong_secret_gets_nothing_of_it(service: BuilderService, held: Held) -> None:
    lock = await pull(service)
    held.put("others", held.held[0].address, "wrong")
    with pytest.raises(ChannelUnavailable, match="answers 401"):
        await solve(service, lock.spec, "others")
    held.put("others", held.held[0].address)
    theirs = await solve(service, lock.spec, "others")
    assert theirs.key != lock.key
    assert theirs.packages["linux-64"][0].archive_key != lock.packages["linux-64"][0].archive_key


async def test_locks_and_handles_of_another_namespace_are_not_found(service: BuilderService, held: Held) -> None:
    spec = replace((await pull(service)).spec, owner="")
    held.put("others", held.held[0].address)
    theirs = await solve(service, spec, "others")
    with pytest.raises(UnknownLock):
        await service.demand.image(NAME, f"lock-{theirs.key[:12]}")
    with pytest.raises(InvalidImageName, match="no stored spec has this handle"):
        await service.demand.image(f"{ROOT}/spec.{theirs.spec.key[:16]}", "latest")


async def test_what_is_removed_or_set_anew_counts_at_the_next_request(
    service: BuilderService, held: Held, server: ChannelServer
) -> None:
    first = await pull(service)
    before = len(server.requests)
    held.held.clear()
    with pytest.raises(BuildFailed, match="answers 401"):
        await pull(service)
    held.put(ROOT, f"{server.url}/", "wrong")
    with pytest.raises(BuildFailed, match="answers 401"):
        await pull(service)
    assert not [each for each in server.requests[before:] if each.status == 200]
    held.put(ROOT, f"{server.url}/")
    assert (await pull(service)).key == first.key


async def test_other_names_are_not_touched(tmp_path: Path, server: ChannelServer, held: Held) -> None:
    url = await make_channel(tmp_path / "open", [Package("lib")])
    async with open_service(tmp_path / "data", url, credentials=held) as service:
        lock = await pull(service, f"{ROOT}/lib")
        assert (lock.spec.owner, lock.packages["linux-64"][0].owner) == ("", "")
        assert service.builder.solver._running == {}


async def test_it_is_not_shown_to_another_port_of_the_host(tmp_path: Path, server: ChannelServer, held: Held) -> None:
    """Not through a channel in the same request, nor by the file's credentials' rule of one host."""
    async with ChannelServer(tmp_path / "channel") as other:
        async with open_service(
            tmp_path / "data", server.url, credentials=held, channels=(server.url, other.url)
        ) as service:
            with pytest.raises(BuilderError):
                await pull(service)
        assert other.requests == []


@pytest.mark.parametrize("what", ["package", "index"])
async def test_cve_2020_15157_it_follows_no_redirect(
    tmp_path: Path, server: ChannelServer, held: Held, what: str
) -> None:
    (package,) = (tmp_path / "channel").glob("*/*.conda")
    path = f"{package.parent.name}/{package.name if what == 'package' else 'repodata.json.zst'}"
    async with ChannelServer(tmp_path / "channel") as other:
        for shards in (tmp_path / "channel").glob("*/repodata_shards*"):
            shards.unlink()
        # by a name of its own: another port of the same host would not be asked at all
        url = f"http://localhost:{other.port}"
        server.fail(path, times=9, redirect=f"{url}/{path}")
        async with open_service(tmp_path / "data", server.url, credentials=held, allowed_channels=(url,)) as service:
            await pull(service)
        assert other.seen(path)
        assert [each for each in other.requests if "Authorization" in each.headers] == []


@pytest.mark.parametrize("form", ["bearer", "conda-token"])
async def test_other_forms(tmp_path: Path, form: Form) -> None:
    await make_channel(tmp_path / "channel" / "team", [Package("private")])
    held = Held()
    async with ChannelServer(tmp_path / "channel", f"Bearer {SECRET}" if form == "bearer" else None) as server:
        if form == "conda-token":
            (tmp_path / "channel" / "t").mkdir()
            (tmp_path / "channel" / "t" / SECRET).symlink_to(tmp_path / "channel", target_is_directory=True)
        held.put(ROOT, f"{server.url}/", form=form)
        async with open_service(tmp_path / "data", f"{server.url}/team", credentials=held) as service:
            lock = await pull(service)
            assert SECRET not in str(lock.to_json())
        paths = {each.path for each in server.requests if each.status == 200}
        assert paths
        assert all(path.startswith(f"/t/{SECRET}/") for path in paths) == (form == "conda-token")


async def test_a_bounded_number_of_them_have_processes(
    service: BuilderService, held: Held, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(own, "MOST", 1)
    spec = replace((await pull(service)).spec, owner="")
    solvers = service.builder.solver
    for number in range(3):
        held.put(f"team{number}", held.held[0].address)
        await solve(service, spec, f"team{number}")
        assert len(solvers._running) == 1
        assert len(list((tmp_path / "data" / "repodata" / "own").iterdir())) == 1
    await solvers.solve(spec, {}, NO_POLICY, await service.builder.logins.find(ROOT))


async def test_who_has_one_does_not_wait_for_who_needs_room(
    service: BuilderService, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "MOST", 2)
    solvers = service.builder.solver
    for namespace in ("one", "two", "three"):
        held.put(namespace, held.held[0].address)
    one, two, three = [await service.builder.logins.find(name) for name in ("one", "two", "three")]
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        got_room = asyncio.Event()

        async def take_the_place() -> None:
            async with solvers._use(three):
                assert set(solvers._running) == {two.key, three.key}
                got_room.set()

        async with solvers._use(two):
            async with solvers._use(one), solvers._use(two):
                # two was used last: the place of one is waited for
                tasks.create_task(take_the_place())
                while not solvers._running[one.key].is_leaving:
                    await asyncio.sleep(0)
                async with solvers._use(two):
                    assert not got_room.is_set()
                waits = tasks.create_task(_use_once(solvers, one))
                await asyncio.sleep(0)
                assert not waits.done()
            await got_room.wait()
    assert not any(running.users for running in solvers._running.values())


async def _use_once(solvers: own.OwnSolvers, logins: Logins) -> None:
    async with solvers._use(logins):
        pass


async def test_who_gives_up_waiting_for_room_takes_no_place(
    service: BuilderService, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "MOST", 1)
    solvers = service.builder.solver
    for namespace in ("one", "two"):
        held.put(namespace, held.held[0].address)
    one, two = [await service.builder.logins.find(name) for name in ("one", "two")]
    async with asyncio.timeout(60), solvers._use(one):
        waits = asyncio.create_task(_use_once(solvers, two))
        while not solvers._running[one.key].is_leaving:
            await asyncio.sleep(0)
        waits.cancel()
        await asyncio.wait([waits])
        await _use_once(solvers, one)
    assert list(solvers._running) == [one.key]
