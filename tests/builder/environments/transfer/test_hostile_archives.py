"""Archives of whoever means harm: each is refused with a reason, and leaves no environment."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.errors import ChannelNotAllowed, InputInvalid, PolicyRefusal
from builder.locks.lock import Lock
from builder.policy.settings import PolicySettings
from builder.service import BuilderService
from storage.environments.lists.scope import Scope
from storage.errors import ConderyError, DigestMismatch, EnvironmentUnknown
from tests.support.builder.services import make_channel, open_service
from tests.support.builder.transfer.archives import (
    Change,
    add_file,
    blob_path,
    change_document,
    change_lock,
    change_specification,
    pack,
    put_blob,
    read_artifact,
    read_document,
    write_artifact,
    write_document,
)
from tests.support.builder.transfer.histories import History, importing, log_of, named_of

Spoil = Callable[[Path], object]


async def refuse(service: BuilderService, path: Path, error: type[ConderyError], match: str) -> None:
    """The import is refused, and has made nothing that anybody sees."""
    with pytest.raises(error, match=match):
        await importing(service).read(path, by="mallory")
    with pytest.raises(EnvironmentUnknown):
        await named_of(service).store.environments.find("team", "Science")
    assert await named_of(service).store.builds.list_ids(Scope()) == []


def in_document(change: Change) -> Spoil:
    return lambda layout: change_document(layout, change)


def in_first_build(**fields: Any) -> Spoil:
    return in_document(lambda document: document["builds"][0].update(fields))


def in_lock(change: Change) -> Spoil:
    """A lock with a right key, which says something that no lock may say."""
    return lambda layout: change_lock(layout, change, key=lambda lock: Lock.from_json(lock).key)


def in_package(**fields: Any) -> Spoil:
    return in_lock(lambda lock: next(iter(lock["packages"].values()))[0].update(fields))


def in_spec(**fields: Any) -> Spoil:
    return in_lock(lambda lock: lock["spec"].update(fields))


def in_specification(**fields: Any) -> Spoil:
    return lambda layout: change_specification(layout, lambda found: found["document"].update(fields))


def spoil_blob(layout: Path) -> None:
    """Other bytes of the same size in a layer."""
    path = blob_path(layout, manifest_of(layout)["layers"][0]["digest"])
    path.write_bytes(bytes(path.stat().st_size))


def spoil_document(layout: Path) -> None:
    path = blob_path(layout, read_artifact(layout)["layers"][0]["digest"])
    path.write_bytes(path.read_bytes().replace(b"COMPLETED", b"CANCELED "))


def drop_config(layout: Path) -> None:
    config_of(layout).unlink()


def link_config(layout: Path) -> None:
    """A link out of the archive in the place of a blob."""
    path = config_of(layout)
    (layout.parent / "secret").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(layout.parent / "secret")


def pipe_config(layout: Path) -> None:
    path = config_of(layout)
    path.unlink()
    os.mkfifo(path)


def config_of(layout: Path) -> Path:
    return blob_path(layout, manifest_of(layout)["config"]["digest"])


def manifest_of(layout: Path) -> dict[str, Any]:
    top = read_document(layout)["builds"][0]["image"]["top"]["digest"]
    child = json.loads(blob_path(layout, top).read_bytes())["manifests"][0]["digest"]
    return dict(json.loads(blob_path(layout, child).read_bytes()))


def swap_images(document: Any) -> None:
    """The image of another lock."""
    first, second = document["builds"][:2]
    first["image"], second["image"] = second["image"], first["image"]


def add_foreign_manifest(document: Any) -> None:
    first, second = document["builds"][:2]
    known = {each["digest"] for each in first["image"]["manifests"]}
    first["image"]["manifests"] += [each for each in second["image"]["manifests"] if each["digest"] not in known]


def lead_elsewhere(lock: Any) -> None:
    package = next(iter(lock["packages"].values()))[0]
    package["url"] = "file:///etc/" + "/".join(package["url"].split("/")[-2:])


def nest(layout: Path) -> None:
    write_document(layout, b'{"version": 1, "builds": ' + b"[" * 5000 + b"]" * 5000 + b"}")


def two_documents(layout: Path) -> None:
    artifact = read_artifact(layout)
    artifact["layers"].append(artifact["layers"][0] | put_blob(layout, b'{"version": 1}'))
    write_artifact(layout, artifact)


def drop_artifact(layout: Path) -> None:
    index = json.loads((layout / "index.json").read_bytes())
    (layout / "index.json").write_bytes(json.dumps(index | {"manifests": index["manifests"][1:]}).encode())


def spoil_marker(layout: Path) -> None:
    (layout / "oci-layout").write_bytes(b'{"imageLayoutVersion":"2.0.0"}')


def huge_index(layout: Path) -> None:
    """A file of which a disk has nearly nothing."""
    os.truncate(layout / "index.json", 1 << 40)


def long_index(layout: Path) -> None:
    index = json.loads((layout / "index.json").read_bytes())
    index["manifests"] += [{}] * 100_000
    (layout / "index.json").write_bytes(json.dumps(index).encode())


def with_log(content: bytes, **described: Any) -> Spoil:
    """Another log of the build that failed."""

    def spoil(layout: Path) -> None:
        log = {"mediaType": "application/vnd.condery.log.v1+json-lines", **put_blob(layout, content), **described}
        change_document(layout, lambda document: document["builds"][2].update(log=log))

    return spoil


def spoil_log(layout: Path) -> None:
    path = blob_path(layout, read_document(layout)["builds"][2]["log"]["digest"])
    path.write_bytes(path.read_bytes().replace(b"tow", b"two"))


ROWS: dict[str, tuple[Spoil, type[ConderyError], str]] = {
    "a blob of other bytes": (spoil_blob, DigestMismatch, "sha256:"),
    "a document of other bytes": (spoil_document, InputInvalid, "the archive is damaged"),
    "a blob that is missing": (drop_config, InputInvalid, "blobs/sha256/.*it is missing"),
    "a link for a blob": (link_config, InputInvalid, "blobs/sha256/.*cannot be read"),
    "a pipe for a blob": (pipe_config, InputInvalid, "it is not a regular file"),
    "another layout": (spoil_marker, InputInvalid, "no OCI layout of version 1"),
    "no environment": (drop_artifact, InputInvalid, "it has 0 exported environments"),
    "two documents": (two_documents, InputInvalid, "2 documents"),
    "a deep document": (nest, ConderyError, "nested"),
    "no JSON": (lambda layout: write_document(layout, b"{"), ConderyError, "line 1"),
    "a later version": (in_document(lambda it: it.update(version=2)), InputInvalid, "version: it is '2'"),
    "an unknown key": (in_document(lambda it: it.update(more=1)), InputInvalid, "more: unknown key"),
    "a name that is a path": (in_document(lambda it: it["environment"].update(name="../up")), InputInvalid, "name"),
    "a namespace with more parts": (
        in_document(lambda it: it["environment"].update(namespace="team/other")), InputInvalid, "gives no name",
    ),
    "a namespace of no image": (
        in_document(lambda it: it["environment"].update(namespace="..")), InputInvalid, "gives no name",
    ),
    "a build that is running": (in_first_build(status="BUILDING"), InputInvalid, r"builds\[0\].status"),
    "a build in the future": (in_first_build(ended=9e12), InputInvalid, r"builds\[0\].ended.*not a time in the past"),
    "a build of no specification": (in_first_build(specification=99), InputInvalid, "there is no specification 99"),
    "a build of no lock": (in_first_build(lock="0" * 64), InputInvalid, "there is no lock"),
    "a reason with control characters": (in_first_build(status_info="\x1b[2J"), InputInvalid, "control character"),
    "builds in disorder": (in_document(lambda it: it["builds"].reverse()), InputInvalid, "in the order of their ids"),
    "a huge lock": (
        in_document(lambda it: next(iter(it["locks"].values())).update(size=1 << 40)), InputInvalid, "at most",
    ),
    "the image of another lock": (in_document(swap_images), InputInvalid, "build .*is not of lock-"),
    "a manifest of another image": (in_document(add_foreign_manifest), InputInvalid, "is of another image"),
    "a lock under another key": (
        lambda layout: change_lock(layout, lambda lock: lock["spec"].update(prefix="/opt/other")),
        InputInvalid, "it is not lock-",
    ),
    "an address of a file elsewhere": (in_lock(lead_elsewhere), InputInvalid, "a file of the machine"),
    "an address of another package": (in_package(name="three"), InputInvalid, "name.*they must be the same"),
    "a file's name with a path": (in_package(file_name="../two-1-0.conda"), InputInvalid, "file_name"),
    "no hash": (in_package(sha256=None, md5=None), InputInvalid, "neither sha256 nor md5"),
    "an odd requirement": (in_spec(requirements=["Requests >= 2"]), InputInvalid, "as condery writes requirements"),
    "a requirement that is a path": (in_spec(requirements=["./x"]), InputInvalid, "is a path of your machine"),
    "an index that is a file": (in_spec(indexes=["file:///srv"]), InputInvalid, "is not the address of an index"),
    "hashes that are none": (in_spec(hashes={"a": ["x"]}), InputInvalid, "they must be sha256"),
    "another channel": (in_package(channel="https://evil.example/channel"), ChannelNotAllowed, "evil.example"),
    "a licence of many lines": (in_package(license="MIT\nGPL"), InputInvalid, "license"),
    "a dangerous prefix": (in_spec(prefix="/proc/self"), InputInvalid, "prefix"),
    "an operator of no conda": (
        in_lock(lambda lock: lock["spec"]["items"][0].update(constraints=[["; rm", "1"]])), InputInvalid, "operator",
    ),
    "a variable that activation sets": (in_spec(variables=[["PATH", "/evil"]]), InputInvalid, "PATH"),
    "a platform without images": (in_specification(platforms=["win-64"]), InputInvalid, "platforms"),
    "an environment of others": (
        in_specification(extends="secret/base"), InputInvalid, "build .*extends: 'secret/base' is of another namespace",
    ),
    "a specification that is none": (in_specification(dependencies=["-e ."]), InputInvalid, "dependencies"),
    "an index of a terabyte": (huge_index, InputInvalid, "index.json: it has 1099511627776 bytes; at most"),
    "an index of too many": (long_index, ConderyError, "more than 100000"),
    "a log of other bytes": (spoil_log, InputInvalid, "build .*the archive is damaged"),
    "a log that is not there": (with_log(b"", digest=f"sha256:{'0' * 64}"), InputInvalid, "it is missing"),
    "a log of another size": (with_log(b"{}", size=1), InputInvalid, "but its descriptor says 1"),
    "a huge log": (with_log(b"", size=1 << 40), InputInvalid, r"builds\[2\].log.size.*at most"),
    "a log of one line": (with_log(b"x" * (2 << 20)), InputInvalid, "a line of more than 65536 bytes"),
    "settings without end": (
        in_document(lambda it: it["environment"]["settings"].update(quota="9" * (2 << 20))), InputInvalid,
        "environment.settings: it has",
    ),
    "a channel that is not allowed": (
        in_specification(channels=["https://evil.example/channel"]), ChannelNotAllowed, "evil.example",
    ),
}  # fmt: skip


async def test_each_is_refused(tmp_path: Path, history: History) -> None:
    made = history.put(tmp_path / "good")
    async with open_service(tmp_path / "here", made.channel) as service:
        for number, (name, (spoil, error, match)) in enumerate(ROWS.items()):
            layout = tmp_path / f"layout{number}"
            shutil.copytree(tmp_path / "good", layout)
            spoil(layout)
            try:
                await refuse(service, layout, error, match)
            except (AssertionError, pytest.fail.Exception) as problem:
                raise AssertionError(name) from problem
            shutil.rmtree(layout)
        # whatever they left stands in nobody's way
        assert len(await importing(service).read(tmp_path / "good", by="bob")) == 3


TARS: dict[str, tuple[Callable[[tarfile.TarFile], None], str]] = {
    "a name twice": (lambda tar: add_file(tar, "./index.json"), "twice"),
    "a symbolic link": (lambda tar: add_file(tar, "blobs/x", kind=tarfile.SYMTYPE, link="/etc/shadow"), "a link"),
    "a hard link": (lambda tar: add_file(tar, "blobs/x", kind=tarfile.LNKTYPE, link="index.json"), "a link"),
    "a device": (lambda tar: add_file(tar, "blobs/x", kind=tarfile.CHRTYPE), "no file at all"),
    "a long record": (lambda tar: add_file(tar, "n" * 100_000), "a record of"),
}


async def test_tars(tmp_path: Path, history: History) -> None:
    made = history.put(tmp_path / "good")
    async with open_service(tmp_path / "here", made.channel) as service:
        for number, (extra, match) in enumerate(TARS.values()):
            await refuse(service, pack(tmp_path / "good", tmp_path / f"{number}.tar", extra), InputInvalid, match)
        whole = pack(tmp_path / "good", tmp_path / "whole.tar")
        cut = tmp_path / "cut.tar"
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        await refuse(service, cut, InputInvalid, "cut off|not a whole tar")
        with tarfile.open(tmp_path / "packed.tar", "w:gz") as tar:
            tar.add(tmp_path / "good", ".")
        await refuse(service, tmp_path / "packed.tar", InputInvalid, "decompress it first")
        (tmp_path / "other.tar").write_bytes(os.urandom(4096))
        await refuse(service, tmp_path / "other.tar", InputInvalid, "not a whole tar archive")
        await refuse(service, tmp_path / "none", InputInvalid, "No such file")

        def escape(tar: tarfile.TarFile) -> None:
            add_file(tar, "../../escaped")
            add_file(tar, "/tmp/escaped")

        # what has no place in a layout is not read, and nothing is unpacked
        outside = pack(tmp_path / "good", tmp_path / "outside.tar", escape)
        assert len(await importing(service).read(outside, by="bob")) == 3
        assert not list(tmp_path.rglob("escaped"))
        assert not Path("/tmp/escaped").exists()


async def test_a_log_says_what_a_log_of_ours_can_say(
    tmp_path: Path, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No terminal obeys it, it has no event of another kind, and what is packed is no lines."""
    made = history.put(tmp_path / "good")
    bomb = gzip.compress(b'{"at":1,"kind":"line","text":"x"}\n' * 100_000)
    line = b'{"at":1,"kind":"state\\nid: 7","text":"\\u001b[2J https://a:b@c/","data":{"a":[[1]],"b":"\\u001b"}}\n'
    spoils = {"lines": line * 2 + b"no record\n" + b"[" * 50_000 + b"\n" + b"half a record", "bomb": bomb, "empty": b""}
    async with open_service(tmp_path / "here", made.channel) as service:
        logs = {}
        expected = b'{"at":1.0,"kind":"line","text":"\\\\x1b[2J https://***@c/","data":{"b":"\\\\x1b"}}\n' * 2
        for name, content in spoils.items():
            layout = tmp_path / name
            shutil.copytree(tmp_path / "good", layout)
            with_log(content)(layout)
            # one log of many builds is kept once
            change_document(layout, lambda document: document["builds"][0].update(log=document["builds"][2]["log"]))
            found = await importing(service).read(layout, by="mallory", namespace=name)
            logs[name] = [await log_of(service, found[place].build) for place in (0, 2)]
        with monkeypatch.context() as changed:
            changed.setattr("builder.environments.transfer.logs.LARGEST_LOG", len(expected) - 1)
            with pytest.raises(InputInvalid, match=r"build .*log: it has more than"):
                await importing(service).read(tmp_path / "lines", by="mallory", namespace="other")
        assert logs == {"lines": [expected] * 2, "bomb": [b""] * 2, "empty": [b""] * 2}


async def test_rules_hold(tmp_path: Path, history: History) -> None:
    made = history.put(tmp_path / "good")
    rules = PolicySettings(denied_packages=("two",))
    async with open_service(tmp_path / "here", made.channel, rules=rules) as service:
        await refuse(service, tmp_path / "good", PolicyRefusal, "two")


async def test_channels_must_be_allowed(tmp_path: Path, history: History) -> None:
    history.put(tmp_path / "good")
    other = await make_channel(tmp_path / "other", [])
    async with open_service(tmp_path / "here", other) as service:
        await refuse(service, tmp_path / "good", ChannelNotAllowed, "channel")


async def test_a_lie_about_a_licence_is_not_built(tmp_path: Path, history: History) -> None:
    made = history.put(tmp_path / "good", with_bytes=False)
    in_package(license="MIT-of-mallory")(tmp_path / "good")
    async with open_service(tmp_path / "here", made.channel) as service:
        named = named_of(service)
        [first, *_] = await importing(service).read(tmp_path / "good", by="mallory")
        claimed = first.build.lock_key
        await named.submit(first.build)
        while not (ended := await named.store.builds.find(first.build.id)).is_finished:
            await asyncio.sleep(0.02)
        assert ended.lock_key not in (None, claimed)
        assert ended.status_info is not None
        assert "says another license than the exported lock, which was not followed" in ended.status_info
