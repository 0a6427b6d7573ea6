"""The files beside an image, made and stored; the archive with a real Python, which then runs elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from builder.artifacts.artifact import ARCHIVE, ARTIFACTS, Artifact, make_artifact, make_artifact_key
from builder.channels.logins import Logins
from builder.errors import BuilderError, DownloadFailed, FormatUnsuitable, UnknownArtifact
from builder.locks.formats import FORMATS
from builder.locks.lock import Lock, LockedPackage
from storage.blobs.joins import Join
from tests.support.builder.locks import LOCK, SPEC, package
from tests.support.builder.packages import File, Package
from tests.support.builder.services import open_service, spec_of
from tests.support.servers.channel_server import ChannelServer
from tests.support.storage.stores import open_stores


async def no_pack(lock: Lock, platform: str) -> Join:
    raise AssertionError("a text file is not packed")


async def make(name: str, lock: Lock, tmp_path: Path) -> tuple[Artifact, bytes]:
    async with open_stores(tmp_path / "data") as stores:
        artifact = await make_artifact(name, lock, blobs=stores.blobs, layers=stores.layers, pack=no_pack)
        content = await stores.content(artifact.digest)
        assert len(content) == artifact.size
        return artifact, content


async def make_archive(lock: Lock, channel: str, data: Path) -> tuple[Artifact, bytes]:
    async with open_service(data, channel) as service:
        await service.builder.artifact(lock, ARCHIVE)
        document = await service.builder.catalog.artifacts.find(make_artifact_key(lock.key, ARCHIVE))
        assert document
        artifact = Artifact.from_json(document)
        return artifact, await service.builder.blobs.content(artifact.digest)


@pytest.mark.parametrize(
    ("name", "media_type", "file_name"),
    [
        ("conda-lock.yml", "application/yaml", f"numpy-python-{LOCK.key[:12]}.conda-lock.yml"),
        ("pixi.lock", "application/yaml", f"numpy-python-{LOCK.key[:12]}.pixi.lock"),
        ("explicit.txt", "text/plain; charset=utf-8", f"numpy-python-{LOCK.key[:12]}-linux-64.explicit.txt"),
        ("environment.yaml", "application/yaml", f"numpy-python-{LOCK.key[:12]}-linux-64.environment.yaml"),
    ],
)
async def test_text(name: str, media_type: str, file_name: str, tmp_path: Path) -> None:
    artifact, content = await make(name, LOCK, tmp_path)
    assert (artifact.media_type, artifact.file_name) == (media_type, file_name)
    [lock_format] = [each for each in FORMATS if each.file_name == name]
    assert content == lock_format.write(LOCK, "linux-64")
    assert Artifact.from_json(artifact.to_json()) == artifact


async def test_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(UnknownArtifact, match=re.escape(", ".join(ARTIFACTS))):
        await make("environment.json", LOCK, tmp_path)


async def test_failures_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(FormatUnsuitable):
        await make("conda-lock.yml", Lock(SPEC, {"linux-64": (package("old", md5=None),)}), tmp_path)
    made = Package("tool").conda(tmp_path / "channel")
    made.path.write_bytes(b"")
    with pytest.raises(BuilderError, match="tool"):
        await make_archive(
            Lock(SPEC, {"linux-64": (made.record,)}), (tmp_path / "channel").as_uri(), tmp_path / "service"
        )
    assert not [path for path in (tmp_path / "service/fragments").rglob("*") if path.is_file()]
    async with open_stores(tmp_path / "service") as stores:
        assert (await stores.stored(), await stores.pending(), stores.files()) == ([], [], [])


async def test_archive_of_another_platform(tmp_path: Path) -> None:
    """Nothing of it is run, so any platform's can be made."""
    made = Package("tool", subdir="linux-ppc64le", files={"bin/tool": File(b"\x7fELF", 0o755)}).conda(
        tmp_path / "channel"
    )
    lock = Lock(SPEC, {"linux-ppc64le": (made.record,)})
    artifact, _ = await make_archive(lock, (tmp_path / "channel").as_uri(), tmp_path / "service")
    assert artifact.media_type == "application/gzip"
    assert artifact.file_name.endswith("-linux-ppc64le.tar.gz")


async def test_archive_runs_elsewhere(sample_channel: Path, tmp_path: Path) -> None:
    async with open_service(tmp_path / "service", sample_channel.as_uri(), glibc="2.99") as service:
        lock = await service.lock(spec_of(service, "python", "numpy", "flask"))
    artifact, content = await make_archive(lock, sample_channel.as_uri(), tmp_path / "service")
    assert artifact.file_name == f"flask-numpy-python-{lock.key[:12]}-linux-64.tar.gz"
    place = tmp_path / "unpacked"
    place.mkdir()
    subprocess.run(["tar", "xz", "-C", place], input=content, check=True)

    def run(*command: str | Path) -> str:
        environment = {"PATH": f"{place}/bin:{os.defpath}"}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    run(place / "bin/python", place / "bin/conda-unpack")

    assert (
        run("python", "-c", "import numpy; print(round(float(numpy.linalg.det(numpy.eye(3) * 2)), 6))").strip() == "8.0"
    )
    assert "Flask" in run("flask", "--version")
    assert run("python", "-c", "import sys; print(sys.prefix)").strip() == str(place)


async def test_a_package_that_cannot_be_had_ends_the_other_downloads_of_an_archive(tmp_path: Path) -> None:
    """No more of them are under way than a build can use, and they end before the archive fails."""
    channel = tmp_path / "channel"
    records = [Package(f"p{number}", files={"a": File(b"a")}).conda(channel).record for number in range(40)]
    async with ChannelServer(channel) as server, open_service(tmp_path / "data", server.url, downloads=4) as service:
        lock = Lock(
            SPEC,
            {
                "linux-64": tuple(
                    replace(each, channel=server.url, url=f"{server.url}/{each.subdir}/{each.file_name}")
                    for each in records
                )
            },
        )
        server.fail(records[0].file_name, status=404, times=99)
        for record in records[1:]:
            server.hold(record.file_name)
        fetching = most = 0
        fetch = service.builder.downloader.fetch

        async def counted(package: LockedPackage, *, logins: Logins) -> Path:
            nonlocal fetching, most
            fetching += 1
            most = max(most, fetching)
            try:
                return await fetch(package, logins=logins)
            finally:
                fetching -= 1

        object.__setattr__(service.builder.downloader, "fetch", counted)
        with pytest.raises(DownloadFailed, match="404"):
            await service.builder.artifact(lock, ARCHIVE)
        assert (fetching, most) == (0, 8)
