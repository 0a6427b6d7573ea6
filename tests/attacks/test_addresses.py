"""Channels that send the server inside: to its own ports, its network, a cloud's metadata, its files."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from builder.channels.channel import Credential, Credentials
from builder.channels.download import Downloader, DownloadSettings
from builder.channels.policy import ChannelPolicy
from builder.errors import ChannelUnavailable, DownloadFailed, PackageRefused, SolveError
from builder.locks.lock import Lock, LockedPackage
from builder.names.spec import EnvironmentSpec, PackageItem
from builder.solve.settings import SolverSettings
from builder.solve.solver import Solver
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel, open_service, spec_of
from tests.support.servers.channel_server import ChannelServer, Fault
from tests.support.servers.inside import STATUS, TARGETS, Channel, Inside, channel, inside

INDEXES = ("repodata_shards.msgpack.zst", "repodata.json.zst", "repodata.json")


@pytest.fixture
async def hidden() -> AsyncIterator[Inside]:
    async with inside() as running:
        yield running


@pytest.fixture
async def evil(tmp_path: Path) -> AsyncIterator[Channel]:
    """A channel that the settings name, so that it may be on this machine; nothing else there may."""
    async with channel(tmp_path / "channel") as running:
        yield running


def settings(tmp_path: Path, *channels: str) -> SolverSettings:
    return SolverSettings(tmp_path / "repodata", ChannelPolicy(channels), seconds=30, refresh=0)


def spec(url: str, *names: str) -> EnvironmentSpec:
    return EnvironmentSpec(tuple(map(PackageItem, names or ("app",))), (url,))


async def refused(tmp_path: Path, evil: Channel) -> str:
    async with Solver(settings(tmp_path, evil.url)) as solver:
        with pytest.raises(SolveError) as caught:
            await solver.solve(spec(evil.url))
    return str(caught.value)


def downloads(tmp_path: Path, policy: ChannelPolicy) -> DownloadSettings:
    return DownloadSettings(tmp_path / "archives", policy, seconds=5, attempts=1, backoff=0.001)


def tells_nothing(message: str) -> bool:
    return not re.search(rf"\b{STATUS}\b|Secret|refused \(os", message)


# indexes


@pytest.mark.parametrize("target", TARGETS)
async def test_cve_2026_2376_an_index_that_redirects_inside(
    tmp_path: Path, evil: Channel, hidden: Inside, target: str
) -> None:
    for index in INDEXES:
        evil.redirect(index, target.format(port=hidden.port))
    message = await refused(tmp_path, evil)
    assert hidden.connections == []
    assert tells_nothing(message)
    assert target.startswith("file:") or "internal address" in message or "reached by http" in message


@pytest.mark.parametrize("target", [*TARGETS, "data:,", "ftp://127.0.0.1:{port}/", "oci://127.0.0.1/x/"])
async def test_shards_that_are_inside(tmp_path: Path, evil: Channel, hidden: Inside, target: str) -> None:
    evil.rewrite_shards(shards_base_url=target.format(port=hidden.port))
    message = await refused(tmp_path, evil)
    assert hidden.connections == []
    assert tells_nothing(message)


async def test_a_shard_that_redirects_inside(tmp_path: Path, evil: Channel, hidden: Inside) -> None:
    evil.redirect(".msgpack.zst", f"http://localhost:{hidden.port}/")
    for path in evil.directory.glob("*/repodata_shards.msgpack.zst"):
        evil.server.faults.insert(0, Fault(f"{path.parent.name}/{path.name}", 999))
    message = await refused(tmp_path, evil)
    assert hidden.connections == []
    assert tells_nothing(message)


@pytest.mark.parametrize("scheme", ["gcs", "s3"])
async def test_addresses_that_only_a_cloud_knows(
    tmp_path: Path, evil: Channel, hidden: Inside, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The libraries for them fetch a login from the metadata service, which is here where this test wants it."""
    monkeypatch.setenv("GCE_METADATA_HOST", hidden.host)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{hidden.host}")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("HOME", str(tmp_path))
    evil.rewrite_shards(shards_base_url=f"{scheme}://bucket/x/")
    await refused(tmp_path, evil)
    assert hidden.connections == []


async def test_what_is_not_named_may_not_be_here(tmp_path: Path, evil: Channel) -> None:
    """A channel that may be asked for is at a public address, whoever asks."""
    policy = ChannelPolicy(others="public")
    async with Solver(SolverSettings(tmp_path / "repodata", policy, seconds=30, refresh=0)) as solver:
        with pytest.raises(ChannelUnavailable, match="internal address"):
            await solver.solve(spec(evil.url))
    assert evil.server.requests == []


async def test_a_channel_of_the_settings_is_read(tmp_path: Path, evil: Channel, hidden: Inside) -> None:
    """By its own host and port, whatever else is refused; and where it refers to another one of the settings."""
    async with ChannelServer(evil.directory) as other, Solver(settings(tmp_path, evil.url, other.url)) as solver:
        evil.rewrite_shards(shards_base_url=f"{other.url}/noarch/shards/")
        lock = await solver.solve(spec(evil.url))
    assert [str(package) for package in lock.packages["linux-64"]] == ["app-1.0-0"]
    assert other.seen(".msgpack.zst")


@pytest.mark.parametrize("form", ["shards", "repodata"])
async def test_a_channel_of_the_settings_may_redirect_to_another(tmp_path: Path, evil: Channel, form: str) -> None:
    async with ChannelServer(evil.directory) as other:
        for platform in ("linux-64", "noarch"):
            if form == "repodata":
                evil.server.faults.append(Fault(f"{platform}/{INDEXES[0]}", 999, status=404))
            for index in INDEXES:
                evil.redirect(f"{platform}/{index}", f"{other.url}/{platform}/{index}")
        evil.server.faults.sort(key=lambda fault: fault.status is None)
        async with Solver(settings(tmp_path, evil.url, other.url)) as solver:
            lock = await solver.solve(spec(evil.url))
        assert [str(package) for package in lock.packages["linux-64"]] == ["app-1.0-0"]
        assert other.requests


# packages


@pytest.mark.parametrize("target", TARGETS)
async def test_cve_2026_2376_a_package_that_redirects_inside(
    tmp_path: Path, evil: Channel, hidden: Inside, target: str
) -> None:
    evil.redirect(".conda", target.format(port=hidden.port))
    async with Downloader(downloads(tmp_path, ChannelPolicy((evil.url,))), Credentials()) as downloader:
        with pytest.raises(DownloadFailed, match=r"internal address|file:|not a canonical IPv4 address") as caught:
            await downloader.fetch(evil.made.record)
    assert hidden.connections == []
    assert tells_nothing(str(caught.value))


@pytest.mark.parametrize("target", [*TARGETS, "gcs://bucket/", "s3://bucket/", "data:,", "//127.0.0.1:{port}/"])
async def test_a_package_whose_address_is_inside(tmp_path: Path, evil: Channel, hidden: Inside, target: str) -> None:
    """As `info.base_url` makes it, or a lock of before there was a check."""
    record = replace(evil.made.record, url=f"{target.format(port=hidden.port)}{evil.made.record.file_name}")
    async with Downloader(downloads(tmp_path, ChannelPolicy((evil.url,))), Credentials()) as downloader:
        with pytest.raises((DownloadFailed, PackageRefused)) as caught:
            await downloader.fetch(record)
    assert hidden.connections == []
    assert tells_nothing(str(caught.value))


@pytest.mark.parametrize("form", ["shards", "repodata"])
@pytest.mark.parametrize("target", ["file://{secret}/", "http://127.0.0.1:{port}/", "https://localhost:{port}/"])
async def test_a_base_url_inside(tmp_path: Path, evil: Channel, hidden: Inside, form: str, target: str) -> None:
    """From the index to the error, with a file of that name and hash where the address says."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / evil.made.record.file_name).write_bytes(evil.made.path.read_bytes())
    base_url = target.format(secret=secret, port=hidden.port)
    if form == "shards":
        evil.rewrite_shards(base_url=base_url)
    else:
        evil.rewrite_repodata(base_url)
    async with open_service(tmp_path / "data", evil.url) as service:
        with pytest.raises((DownloadFailed, PackageRefused), match=r"internal address|this machine's files"):
            await service.build(spec_of(service, "app"))
    assert hidden.connections == []


async def test_a_stored_lock_with_such_addresses(tmp_path: Path, evil: Channel, hidden: Inside) -> None:
    async with open_service(tmp_path / "data", evil.url) as service:
        wish = spec_of(service, "app")
        for url in (f"http://localhost:{hidden.port}/app.conda", "file:///etc/passwd"):
            lock = Lock(wish, {"linux-64": (replace(evil.made.record, url=url),)})
            with pytest.raises((DownloadFailed, PackageRefused)):
                await service.builder.image(lock)
            with pytest.raises((DownloadFailed, PackageRefused)):
                await service.builder.artifact(lock, "archive.tar.gz")
    assert hidden.connections == []


async def test_a_stranger_does_not_reach_a_channel_of_the_settings_inside(tmp_path: Path, evil: Channel) -> None:
    """The channel may be inside, but not for what another refers to: he could read what only the server may see."""
    policy = ChannelPolicy((evil.url,), others="public")
    record = replace(evil.made.record, channel="https://channel.example/stranger")
    async with Downloader(downloads(tmp_path, policy), Credentials()) as downloader:
        await downloader.fetch(evil.made.record)
        (tmp_path / "archives" / f"{record.sha256}.conda").unlink()
        evil.server.requests.clear()
        for url in (record.url, record.url.replace("http:", "https:")):
            with pytest.raises((DownloadFailed, PackageRefused)):
                await downloader.fetch(replace(record, url=url))
    assert evil.server.requests == []


async def test_a_login_is_not_used_for_another_channel(tmp_path: Path, evil: Channel) -> None:
    credentials = Credentials({"127.0.0.1": Credential("BearerToken", "s3cret")})
    stranger = evil.url.replace("127.0.0.1", "localhost")
    policy = ChannelPolicy((evil.url, stranger))
    async with Downloader(downloads(tmp_path, policy), credentials) as downloader:
        await downloader.fetch(replace(evil.made.record, channel=stranger))
        assert "Authorization" not in evil.server.requests[-1].headers
        (tmp_path / "archives" / f"{evil.made.record.sha256}.conda").unlink()
        await downloader.fetch(evil.made.record)
        assert evil.server.requests[-1].headers["Authorization"] == "Bearer s3cret"


async def test_logins_of_the_account_are_not_used(
    tmp_path: Path, evil: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only those of the file that the settings name."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password s3cret\n")
    (tmp_path / ".netrc").chmod(0o600)
    (tmp_path / ".rattler").mkdir()
    (tmp_path / ".rattler" / "credentials.json").write_text('{"127.0.0.1": {"BearerToken": "s3cret"}}')
    async with Solver(settings(tmp_path, evil.url)) as solver:
        (package,) = (await solver.solve(spec(evil.url))).packages["linux-64"]
    async with Downloader(downloads(tmp_path, ChannelPolicy((evil.url,))), Credentials()) as downloader:
        await downloader.fetch(package)
    assert evil.server.requests
    assert all("Authorization" not in request.headers for request in evil.server.requests)


# files


def local(directory: Path, record: LockedPackage, url: str) -> LockedPackage:
    return replace(record, channel=directory.as_uri(), url=url)


async def test_packages_of_a_directory_stay_in_it(tmp_path: Path) -> None:
    directory = tmp_path / "channel"
    made = Package("app", noarch="generic", files={"share/app": b"app"}).conda(directory)
    outside = tmp_path / "outside.conda"
    outside.write_bytes(made.path.read_bytes())
    (directory / "noarch" / "link.conda").symlink_to(outside)
    (directory / "up").symlink_to(tmp_path)
    (tmp_path / "channel-beside").mkdir()
    (tmp_path / "channel-beside" / "app.conda").symlink_to(made.path)
    (tmp_path / "channel-beside" / "outside.conda").symlink_to(outside)
    (directory / "within").symlink_to("noarch")
    (directory / "deep").mkdir()
    (directory / "deep" / "up").symlink_to(tmp_path)
    record = made.record
    async with Downloader(downloads(tmp_path, ChannelPolicy((directory.as_uri(),))), Credentials()) as downloader:
        name = made.path.name
        for url in (
            made.path.as_uri(),
            f"{directory.as_uri()}//noarch/./{name}",
            f"{directory.as_uri()}/within/{name}",
            f"{directory.as_uri()}/deep/../noarch/{name}",
            (tmp_path / "channel-beside" / "app.conda").as_uri(),
        ):
            assert (await downloader.fetch(local(directory, record, url))).samefile(made.path)
        for url in (
            outside.as_uri(),
            (directory / "noarch/link.conda").as_uri(),
            (directory / "up/outside.conda").as_uri(),
            f"{directory.as_uri()}/noarch/../../outside.conda",
            f"{directory.as_uri()}/noarch/%2e%2e/%2e%2e/outside.conda",
            f"{directory.as_uri()}/deep/up/outside.conda",
            f"{directory.as_uri()}/deep/../../outside.conda",
            (tmp_path / "channel-beside" / "outside.conda").as_uri(),
            f"{made.path.as_uri()}%00",
            f"file://evil.example{outside}",
        ):
            with pytest.raises(PackageRefused, match="this machine's files"):
                await downloader.fetch(local(directory, record, url))


async def test_a_directory_is_a_channel_by_settings_alone(tmp_path: Path) -> None:
    other = await make_channel(tmp_path / "other", [Package("app", noarch="generic")])
    for others in ("none", "public"):
        policy = ChannelPolicy((), others=others)
        async with Solver(SolverSettings(tmp_path / "repodata", policy, seconds=30, refresh=0)) as solver:
            with pytest.raises(SolveError, match="allowed_channels"):
                await solver.solve(spec(other))


async def test_a_file_is_not_read_by_its_size_alone(tmp_path: Path, evil: Channel) -> None:
    """A record that is true of a file of the server makes it no package of the channel."""
    passwd = Path("/etc/passwd")
    record = replace(evil.made.record, url=passwd.as_uri(), size=passwd.stat().st_size)
    async with Downloader(downloads(tmp_path, ChannelPolicy((evil.url,))), Credentials()) as downloader:
        with pytest.raises(PackageRefused, match="this machine's files"):
            await downloader.fetch(record)


# proxies of the environment


async def test_a_proxy_of_the_environment_is_used_and_not_for_the_inside(
    tmp_path: Path, evil: Channel, hidden: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The channel's server plays the proxy of a network in which no name is known but to that."""
    monkeypatch.setenv("HTTP_PROXY", evil.url)
    monkeypatch.setenv("http_proxy", evil.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    url = "http://channel.invalid"
    async with Solver(settings(tmp_path, url)) as solver:
        lock = await solver.solve(spec(url))
    (package,) = lock.packages["linux-64"]
    assert package.url.startswith(url)
    assert evil.server.seen("repodata_shards.msgpack.zst")
    async with Downloader(downloads(tmp_path, ChannelPolicy((url,))), Credentials()) as downloader:
        await downloader.fetch(package)
        (tmp_path / "archives" / f"{package.sha256}.conda").unlink()
        seen = len(evil.server.requests)
        for target in (f"http://{hidden.host}/x", "http://localhost/x", "http://169.254.169.254/x"):
            with pytest.raises(DownloadFailed, match="internal address"):
                await downloader.fetch(replace(package, url=target))
        assert len(evil.server.requests) == seen
    assert hidden.connections == []
