"""Images written out and pushed, and read back by the programs they are for."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import subprocess
import tarfile
import tracemalloc
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from builder.errors import PublishFailed
from builder.publish import StoredImage, push, write_docker_archive, write_oci_layout
from builder.remote.logins import Login
from storage.digest import Descriptor, Digest
from storage.disk.privacy import masked
from storage.errors import ObjectMissing
from storage.objects.segments import CHUNK
from tests.support.builder.images import OCI, Images
from tests.support.servers.reference_registry import (
    PASSWORD,
    USER,
    free_port,
    password_auth,
    reference_registry,
    token_auth,
)
from tests.support.storage.stores import Blocking

HELLO = {"hello.txt": b"hello"}


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Images]:
    with contextlib.closing(Blocking(tmp_path / "data")) as blobs:
        yield Images(blobs)


@pytest.fixture
def index(images: Images) -> Descriptor:
    entries = {platform: images.image([HELLO, {"which": platform.encode()}], platform) for platform in PLATFORMS}
    return images.index(entries)


PLATFORMS = ("linux-64", "linux-aarch64")


def test_a_layout_holds_the_bytes_of_every_part(images: Images, index: Descriptor, tmp_path: Path) -> None:
    write_oci_layout(tmp_path / "out", images.stored(index), tag="v1")
    assert json.loads((tmp_path / "out/oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads((tmp_path / "out/index.json").read_text())["manifests"]
    assert entry == {**index.to_json(), "annotations": {"org.opencontainers.image.ref.name": "v1"}}
    files = list((tmp_path / "out/blobs/sha256").iterdir())
    # an index, and for each platform a manifest, a config and a layer beside the one they share
    assert len(files) == 1 + 2 * 3 + 1
    assert all(hashlib.sha256(file.read_bytes()).hexdigest() == file.name for file in files)


def test_progress_ends_at_the_total(images: Images, index: Descriptor, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_oci_layout(tmp_path / "out", images.stored(index), report=lambda done, total, _: seen.append((done, total)))
    total = sum(images.blobs.sizes(images.blobs.everything().digests).values())
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_used_directory_is_left_alone(images: Images, index: Descriptor, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("keep")
    with pytest.raises(PublishFailed, match="it already exists; name a new directory"):
        write_oci_layout(tmp_path / "out", images.stored(index))
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine"]


@pytest.mark.parametrize("damage", ["changed", "cut", "missing"])
@pytest.mark.parametrize("kind", ["layout", "archive"])
def test_a_damaged_store_leaves_no_output(images: Images, tmp_path: Path, damage: str, kind: str) -> None:
    image = images.image([HELLO])
    layer = Digest.parse(json.loads(images.manifest(image.digest))["layers"][0]["digest"])
    path = images.blobs.path(layer)
    if damage == "missing":
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes(content[:-1] if damage == "cut" else content[:-1] + b"?")
    (tmp_path / "out").mkdir()
    write: Callable[[Path, StoredImage], None] = write_oci_layout if kind == "layout" else write_docker_archive
    with pytest.raises((PublishFailed, ObjectMissing), match=r"is damaged|are gone"):
        write(tmp_path / "out/it", images.stored(image))
    assert not list((tmp_path / "out").iterdir())


def test_output_has_its_own_umask(images: Images, index: Descriptor, tmp_path: Path) -> None:
    """While what others write at the same time has the process's."""
    image = images.image([HELLO])
    reader = _WritingReader(images.blobs, tmp_path / "secret")
    with masked(0o077):
        stored = StoredImage(image, reader, images.manifest)
        write_oci_layout(tmp_path / "made/for/layout", stored, umask=0o027)
        write_docker_archive(tmp_path / "made/too/out.tar", stored, name="x:1", umask=0o027)
        write_docker_archive(tmp_path / "out.tar", stored, name="x:1")
    made = [tmp_path / "made", *(tmp_path / "made").rglob("*")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in made if path.is_dir()} == {0o750}
    assert {stat.S_IMODE(path.stat().st_mode) for path in made if path.is_file()} == {0o640}
    assert stat.S_IMODE((tmp_path / "out.tar").stat().st_mode) == 0o600
    assert reader.modes == {0o600}


def test_an_archive_is_of_one_platform(images: Images, index: Descriptor, tmp_path: Path) -> None:
    with pytest.raises(PublishFailed, match="linux-64, linux-aarch64"):
        write_docker_archive(tmp_path / "out.tar", images.stored(index))
    write_docker_archive(tmp_path / "out.tar", images.stored(index), platform="linux-aarch64", name="x:1")
    with tarfile.open(tmp_path / "out.tar") as tar:
        file = tar.extractfile("manifest.json")
        assert file is not None
        (entry,) = json.load(file)
        config = tar.extractfile(entry["Config"])
        assert config is not None
        assert json.load(config)["architecture"] == "arm64"
    assert entry["RepoTags"] == ["x:1"]


def test_memory_does_not_grow_with_blobs(images: Images, tmp_path: Path) -> None:
    chunk = os.urandom(CHUNK)
    hasher = hashlib.sha256()
    for _ in range(64):
        hasher.update(chunk)
    digest = Digest("sha256:" + hasher.hexdigest())
    size = images.blobs.put(digest, (chunk for _ in range(64)))
    config = images.blob(OCI + "config.v1+json", b"{}")
    layers = [Descriptor(OCI + "layer.v1.tar", digest, size).to_json()]
    image = images.document(OCI + "manifest.v1+json", {"config": config.to_json(), "layers": layers})
    tracemalloc.start()
    try:
        write_oci_layout(tmp_path / "out", images.stored(image))
        write_docker_archive(tmp_path / "out.tar", images.stored(image))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * CHUNK


@pytest.mark.clients
def test_skopeo_reads_layout_and_archive(images: Images, index: Descriptor, tmp_path: Path) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    write_oci_layout(tmp_path / "layout", images.stored(index), tag="v1")
    write_docker_archive(tmp_path / "out.tar", images.stored(index), platform="linux-64", name="team/x:v1")
    raw = _run("skopeo", "inspect", "--raw", f"oci:{tmp_path}/layout:v1")
    assert raw == images.manifest(index.digest)
    for source in (f"oci:{tmp_path}/layout:v1", f"docker-archive:{tmp_path}/out.tar"):
        _run("skopeo", "--insecure-policy", "copy", "-q", source, f"dir:{tmp_path}/{source.partition(':')[0]}")
    (entry,) = [each for each in json.loads(raw)["manifests"] if each["platform"]["architecture"] == "amd64"]
    assert json.loads((tmp_path / "oci/manifest.json").read_text()) == json.loads(images.manifest(entry["digest"]))


@pytest.mark.clients
def test_docker_loads_the_archive(images: Images, tmp_path: Path) -> None:
    if not os.path.exists("/var/run/docker.sock") or shutil.which("docker") is None:
        pytest.skip("there is no docker daemon")
    name = f"condery-test/{tmp_path.name}:v1"
    image = images.image([HELLO, {"again.txt": b"more"}], config={"Cmd": ["/nothing"]})
    write_docker_archive(tmp_path / "out.tar", images.stored(image), name=name)
    _run("docker", "load", "-q", "-i", str(tmp_path / "out.tar"))
    try:
        (found,) = json.loads(_run("docker", "image", "inspect", name))
        assert found["Config"]["Cmd"] == ["/nothing"]
        assert len(found["RootFS"]["Layers"]) == 2
    finally:
        _run("docker", "image", "rm", name)


class TestPush:
    pytestmark = pytest.mark.clients

    @pytest.fixture
    def registry(self, tmp_path: Path) -> Iterator[str]:
        with reference_registry(tmp_path / "registry") as address:
            yield address

    def test_tag_and_every_platform_are_there(self, images: Images, index: Descriptor, registry: str) -> None:
        pushed = push(f"{registry}/team/x:v1", images.stored(index))
        assert pushed == f"{registry}/team/x:v1@{index.digest}"
        assert push(f"{registry}/team/x", images.stored(index)) == f"{registry}/team/x:latest@{index.digest}"
        assert _get(f"http://{registry}/v2/team/x/manifests/v1", index.media_type) == images.manifest(index.digest)
        for entry in json.loads(images.manifest(index.digest))["manifests"]:
            body = _get(f"http://{registry}/v2/team/x/manifests/{entry['digest']}", entry["mediaType"])
            for layer in json.loads(body)["layers"]:
                assert Digest.of(_get(f"http://{registry}/v2/team/x/blobs/{layer['digest']}")) == layer["digest"]

    def test_what_is_there_is_not_sent_again(self, images: Images, registry: str) -> None:
        first = images.image([HELLO])
        second = images.image([HELLO, {"new": b"new"}])
        push(f"{registry}/team/x:v1", images.stored(first))
        shared = json.loads(images.manifest(first.digest))["layers"][0]["digest"]
        store = _CountingReader(images.blobs)
        push(f"{registry}/team/x:v2", StoredImage(second, store, images.manifest))
        assert shared not in store.seen
        assert len(store.seen) == 2

    @pytest.mark.parametrize("cut", [0, 1])
    def test_a_damaged_store_is_told(self, images: Images, registry: str, cut: int) -> None:
        image = images.image([HELLO])
        path = images.blobs.path(Digest.parse(json.loads(images.manifest(image.digest))["layers"][0]["digest"]))
        path.write_bytes(path.read_bytes()[: -1 - cut] + b"?")
        with pytest.raises(PublishFailed, match=r"the stored blob sha256:.* is damaged"):
            push(f"{registry}/team/x:v1", images.stored(image))

    def test_with_a_password(self, images: Images, tmp_path: Path) -> None:
        image = images.stored(images.image([HELLO]))
        with reference_registry(tmp_path / "registry", password_auth(tmp_path)) as address:
            with pytest.raises(PublishFailed, match="login"):
                push(f"{address}/team/x", image)
            with pytest.raises(PublishFailed, match="401") as refused:
                push(f"{address}/team/x", image, logins={address: Login(USER, "not-this")})
            assert "not-this" not in str(refused.value)
            push(f"{address}/team/x", image, logins={address: Login(USER, PASSWORD)})

    def test_with_tokens_of_just_the_scope_asked_for(self, images: Images, index: Descriptor, tmp_path: Path) -> None:
        with token_auth(tmp_path) as (auth, tokens), reference_registry(tmp_path / "registry", auth) as address:
            logins = {address: Login(USER, PASSWORD)}
            push(f"{address}/team/x:v1", images.stored(index), logins=logins, insecure=[tokens.host])
        assert "repository:team/x:pull" in tokens.scopes
        assert any("push" in scope for scope in tokens.scopes)
        assert all(login.startswith("Basic ") for login in tokens.logins)

    def test_nobody_there(self, images: Images) -> None:
        reference = f"127.0.0.1:{free_port()}/team/x:v1"
        with pytest.raises(PublishFailed, match="cannot be reached") as failed:
            push(reference, images.stored(images.image([HELLO])))
        assert reference in str(failed.value)


class _WritingReader:
    """Whenever it is read from, another thread writes a file."""

    def __init__(self, blobs: Blocking, path: Path) -> None:
        self._blobs = blobs
        self._path = path
        self.modes: set[int] = set()

    def read(self, digest: Digest) -> Iterator[bytes]:
        self._path.unlink(missing_ok=True)
        other = Thread(target=self._path.write_bytes, args=(b"",))
        other.start()
        other.join()
        self.modes.add(stat.S_IMODE(self._path.stat().st_mode))
        return self._blobs.read(digest)


class _CountingReader:
    """Remembers which blobs were read."""

    def __init__(self, blobs: Blocking) -> None:
        self._blobs = blobs
        self.seen: set[str] = set()

    def read(self, digest: Digest) -> Iterator[bytes]:
        self.seen.add(digest)
        return self._blobs.read(digest)


def _run(*command: str) -> bytes:
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def _get(url: str, accept: str = "*/*") -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept})) as response:
        body: bytes = response.read()
        return body
