"""Bad input at a running server: the reason in the pull's answer, one line in the log, nothing left behind.

All broken images are asked for at the same time, twice; then everything is mended, and each is asked for again.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.builder.packages import File, Link, Package, write_channel
from tests.support.registry.asking import Answer, ask, manifest_path
from tests.support.registry.stored import assert_blobs_are_sound, builds, leftovers, read_log
from tests.support.server import Server, StartServer
from tests.support.servers.channel_server import ChannelServer, in_a_thread
from tests.support.small_disk import small_disk

MEMORY = 4
"""Seconds for which the server remembers a failure; two requests in a row must fit in."""

CLOSED = "closed"
"""The channel whose server does not listen until all is mended."""

GOOD = Package("good", files={"share/good": b"good\n"})


def unharmed(_archive: Path) -> None:
    pass


def truncated(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-100])


def altered(archive: Path) -> None:
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)


def removed(archive: Path) -> None:
    archive.unlink()


@dataclass(frozen=True)
class Broken:
    """A request that fails; `package` is in the channel until it is `mended` into another of the same name."""

    items: str
    kind: str
    reason: str
    package: Package | None = None
    damage: Callable[[Path], None] = unharmed
    """Done to the archive after the channel was indexed."""
    mended: Package | None = None

    @property
    def path(self) -> str:
        return manifest_path(self.items)

    @property
    def can_be_mended(self) -> bool:
        return self.mended is not None or CLOSED in self.items


def archive(kind: str, reason: str, package: Package, damage: Callable[[Path], None] = unharmed) -> Broken:
    """A broken archive, which is mended by a sound one."""
    return Broken(package.name, kind, reason, package, damage, Package(package.name, files={"share/sound": b"sound\n"}))


def plain(name: str) -> Package:
    return Package(name, files={f"share/{name}": os.urandom(3000)})


LYING_PATHS = json.dumps({"paths_version": 1, "paths": [{"_path": "share/absent", "path_type": "hardlink"}]}).encode()

BROKEN = [
    Broken("godo", "UnknownPackage", r"no package godo for linux-64 in file://.*; did you mean good\?",
           mended=plain("godo")),
    Broken("good.gt.5", "Unsatisfiable", r"no good >5 in .*; available: 1\.0"),
    Broken("good.build.cuda", "Unsatisfiable", r"no build of good .* contains 'cuda'; available: 0"),
    Broken("hungry", "Unsatisfiable", r"absent >=2", Package("hungry", depends=["absent >=2"]),
           mended=Package("hungry", files={"share/hungry": b"no more\n"})),
    Broken(f"channel.{CLOSED}/good", "ChannelUnavailable", rf"channel http://.*/{CLOSED}/ cannot be read: unreachable"),
    Broken("platform.linux-s390x/anywhere", "BaseUnavailable", r"base image host: .*linux-s390x",
           Package("anywhere", noarch="generic", files={"share/x": b""})),
    Broken(
        "module", "PackageRefused", r"module-1\.0-0 .*python",
        Package("module", noarch="python", files={"site-packages/module.py": b""}),
        mended=Package("module", noarch="generic", files={"share/module": b""}),
    ),
    archive("DownloadFailed", r"gone-1\.0-0\.conda cannot be downloaded: .*No such file", plain("gone"), removed),
    archive("PackageRefused", r"truncated-1\.0-0\.conda is refused: it has \d+ bytes, but its channel's index says \d+",
            plain("truncated"), truncated),
    archive("PackageRefused", r"altered-1\.0-0.* has sha256 [0-9a-f]{64}, but its channel's record says [0-9a-f]{64}",
            plain("altered"), altered),
    archive("PackageRefused", r"escape-1\.0-0 .*'\.\./escape'", Package("escape", files={"../escape": b"x"})),
    archive("PackageRefused", r"absolute-1\.0-0 .*'/etc/absolute'", Package("absolute", files={"/etc/absolute": b"x"})),
    archive("PackageRefused", r"through-1\.0-0 .*below it",
            Package("through", files={"out": Link("/etc"), "out/x": b"x"})),
    archive("PackageRefused", r"bomb-1\.0-0 .*expands to more than",
            Package("bomb", files={"share/zeros": bytes(256 << 20)})),
    archive("PackageRefused", r"unlisted-1\.0-0 .*neither info/paths\.json nor info/files",
            Package("unlisted", files={"share/x": b"x"}, info={"paths.json": None})),
    archive("PackageRefused", r"short-1\.0-0 .*bin/short has room for a prefix of 2 bytes",
            Package("short", files={"bin/short": File(b"\0/o/lib\0", placeholder="binary", prefix="/o")})),
    archive("PackageRefused", r"lying-1\.0-0 .*share/absent", Package("lying", info={"paths.json": LYING_PATHS})),
]  # fmt: skip

NAMES = [
    (manifest_path("good.1.0"), 404, "MANIFEST_UNKNOWN", r"no package good\.1\.0; did you mean good\.like\.1\.0\?"),
    (manifest_path("good.gt"), 404, "MANIFEST_UNKNOWN", r"'good\.gt': .*gt has no version"),
    (manifest_path("good.gt."), 400, "NAME_INVALID", r"is not a repository name"),
    (manifest_path("Good"), 400, "NAME_INVALID", r"is not a repository name"),
    ("/v2/conda-store-dynamic/manifests/latest", 404, "MANIFEST_UNKNOWN", r"no packages; did you mean conda-store-"),
    (manifest_path("pypi__requests"), 404, "MANIFEST_UNKNOWN", r"need python"),
    (manifest_path("cuda.twelve/good"), 404, "MANIFEST_UNKNOWN", r"cuda\.twelve"),
    (manifest_path("platform.linux-65/good"), 404, "MANIFEST_UNKNOWN", r"linux-65"),
    (manifest_path("spec.0123456789ab"), 404, "MANIFEST_UNKNOWN", r"no stored spec"),
    ("/v2/elsewhere/good/manifests/latest", 404, "NAME_UNKNOWN", r"there is no repository elsewhere/good here$"),
    ("/v2/good/manifests/latest", 404, "NAME_UNKNOWN", r"are below conda-store-dynamic/: did you mean .*ic/good\?$"),
    (
        "/v2/conda-store-dynamc/good/x/manifests/latest", 404, "NAME_UNKNOWN",
        r"no repository conda-store-dynamc/good/x here; .* did you mean conda-store-dynamic/good/x\?",
    ),
    (manifest_path("good", "2.3.5"), 404, "MANIFEST_UNKNOWN", r"for that version: .*-dynamic/good\.eq\.2\.3\.5$"),
    (manifest_path("good", "1.0"), 404, "MANIFEST_UNKNOWN", r"for that version: .*-dynamic/good\.like\.1\.0$"),
    (manifest_path("good/broken", "1.0"), 404, "MANIFEST_UNKNOWN", r"'1\.0': .*lock- and at least 12 hex digits$"),
    (manifest_path("good", "newest"), 404, "MANIFEST_UNKNOWN", r"'newest': .*a tag is latest, a day .*, or lock-"),
    (manifest_path("good", "2026-02-30"), 404, "MANIFEST_UNKNOWN", r"2026-02-30"),
    (manifest_path("good", "2999-01-01"), 404, "MANIFEST_UNKNOWN", r"2999-01-01"),
    (manifest_path("good", "lock-12"), 404, "MANIFEST_UNKNOWN", r"lock-12"),
    (manifest_path("good", "lock-0123456789ab"), 404, "MANIFEST_UNKNOWN", r"no such lock is stored here"),
    (manifest_path("good", f"sha256:{0:064}"), 404, "MANIFEST_UNKNOWN", r"there is no manifest sha256:0"),
    (f"/v2/conda-store-dynamic/good/blobs/sha256:{0:064}", 404, "BLOB_UNKNOWN", r"sha256:0"),
    ("/files/conda-store-dynamic/good/latest/environment.xml", 404, "NOT_FOUND", r"no file 'environment\.xml' exists"),
]  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """The answers to a broken request: to the first, at once again, and when it was mended."""

    first: Answer
    again: Answer
    mended: Answer | None

    @property
    def message(self) -> str:
        [error] = self.first.json()["errors"]
        assert error["code"] == "MANIFEST_UNKNOWN"
        return str(error["message"])

    @property
    def build(self) -> str:
        found = re.search(r" \(build ([0-9a-f]+)\)$", self.message)
        assert found
        return found[1]


@dataclass(frozen=True)
class Site:
    server: Server
    outcomes: dict[str, Outcome]
    builds: int
    """How many there were before anything was mended."""
    left: Sequence[Path]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("bad")
    channel = directory / "channel"
    write_channel(channel, [GOOD, *(each.package for each in BROKEN if each.package)])
    for each in BROKEN:
        if each.package:
            each.damage(next(channel.glob(f"*/{each.package.stem}.conda")))
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    memory = ("--failure-memory", str(MEMORY), "--transient-failure-memory", str(MEMORY))
    channels = ("--channels", channel.as_uri(), "--channel-alias", f"http://127.0.0.1:{port}")
    server = Server((*memory, *channels, "--workers", "2"), directory / "data", directory / "log")
    server.start()
    try:
        with ThreadPoolExecutor(8) as threads:
            twice = list(threads.map(lambda each: (ask(server, each.path), ask(server, each.path)), BROKEN))
            number, left = len(builds(server)), leftovers(server.data_dir)
            write_channel(
                channel,
                [
                    GOOD,
                    *(each.mended for each in BROKEN if each.mended),
                    *(each.package for each in BROKEN if each.package and each.mended is None),
                ],
            )
            (directory / CLOSED).symlink_to(channel)
            with in_a_thread(ChannelServer(directory, port=port)):
                mended = list(threads.map(lambda each: each.can_be_mended and until_found(server, each.path), BROKEN))
        outcomes = {
            each.items: Outcome(*asked, after or None) for each, asked, after in zip(BROKEN, twice, mended, strict=True)
        }
        yield Site(server, outcomes, number, left)
    finally:
        server.kill()


def until_found(server: Server, path: str) -> Answer:
    """The first answer that is no failure, or the last one after the memory of failures is over."""
    deadline = time.monotonic() + MEMORY + 10
    while (answer := ask(server, path)).status == 404 and time.monotonic() < deadline:
        time.sleep(0.2)
    return answer


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.items)
def test_the_pull_has_the_reason(broken: Broken, site: Site) -> None:
    outcome = site.outcomes[broken.items]
    assert outcome.first.status == 404
    assert re.search(broken.reason, outcome.message)
    assert outcome.again.body == outcome.first.body
    lines = [line for name in ("build failed", "build crashed") for line in read_log(site.server, name)]
    [line] = [line for line in lines if line["build"] == outcome.build]
    assert (line["level"], line["error"]) == ("warning", broken.kind)
    assert line["reason"] in outcome.message


def test_each_request_made_one_build_and_left_nothing(site: Site) -> None:
    assert len({outcome.build for outcome in site.outcomes.values()}) == site.builds == len(BROKEN)
    assert site.left == leftovers(site.server.data_dir) == []
    assert_blobs_are_sound(site.server.data_dir)


@pytest.mark.parametrize("broken", [each for each in BROKEN if each.can_be_mended], ids=lambda broken: broken.items)
def test_what_was_mended_is_built(broken: Broken, site: Site) -> None:
    mended = site.outcomes[broken.items].mended
    assert mended
    assert mended.status == 200


@pytest.mark.parametrize(("path", "status", "code", "reason"), NAMES)
def test_bad_names_are_told_without_a_build(path: str, status: int, code: str, reason: str, site: Site) -> None:
    before = len(builds(site.server))
    answer = ask(site.server, path)
    document = answer.json()
    error = document["errors"][0] if "errors" in document else document
    assert (answer.status, error["code"]) == (status, code)
    assert answer.headers["Content-Type"] == "application/json"
    assert re.search(reason, error["message"])
    head = ask(site.server, path, "HEAD")
    assert (head.status, head.body) == (status, b"")
    assert len(builds(site.server)) == before


def test_a_full_disk_is_told_and_room_is_used_again(start_server: StartServer, tmp_path: Path) -> None:
    huge = Package("huge", files={"share/huge": os.urandom(6 << 20)})
    write_channel(tmp_path / "channel", [GOOD, huge])
    with small_disk(tmp_path / "disk", 5) as disk:
        server = start_server(
            "--channels", (tmp_path / "channel").as_uri(), "--base", "scratch", "--workers", "1", data_dir=disk
        )  # fmt: skip
        answer = ask(server, manifest_path("huge"))
        assert answer.status == 404
        assert "no space left" in answer.json()["errors"][0]["message"]
        assert [line["error"] for line in read_log(server, "build failed")] == ["StorageFull"]
        assert leftovers(disk) == []
        assert ask(server, manifest_path("good")).status == 200
        assert_blobs_are_sound(disk)
        server.kill()
