"""Base images from every source, and the host's made into a container."""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.server
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

from builder.base import Base, BaseImage, open_base
from builder.base.elf import read_elf
from builder.base.host import HostBase
from builder.base.registry import RegistryBase
from builder.errors import BaseUnavailable, CredentialsInvalid, RemoteUnavailable
from builder.platforms import OCI_PLATFORMS, conda_platform, host_platform, oci_platform
from builder.publish import StoredImage, push, write_docker_archive, write_oci_layout
from builder.remote import ImageReference, Login, RemoteRepository, read_logins
from storage.digest import Descriptor, Digest
from tests.builder.images import DOCKER, GLIBC_2_31, OCI, Images, tar_of
from tests.builder.reference_registry import (
    PASSWORD,
    USER,
    password_auth,
    reference_registry,
    token_auth,
)
from tests.storage.stores import Blocking
from tests.unpacking import extract_all

OWN = host_platform() or "linux-64"
OTHER = "linux-s390x" if OWN != "linux-s390x" else "linux-64"


@dataclass
class Data:
    """A data directory, and the store in it."""

    root: Path
    blobs: Blocking


OpenData = Callable[[str], Data]


@pytest.fixture
def open_data(tmp_path: Path) -> Iterator[OpenData]:
    """Opens data directories by name."""
    with contextlib.ExitStack() as stack:

        def open_one(name: str) -> Data:
            return Data(tmp_path / name, stack.enter_context(contextlib.closing(Blocking(tmp_path / name))))

        yield open_one


@pytest.fixture
def images(open_data: OpenData) -> Images:
    """Where bases come from: a store of its own, apart from the one they are put into."""
    return Images(open_data("source").blobs)


@pytest.fixture
def data(open_data: OpenData) -> Data:
    return open_data("data")


def opened(reference: str, data: Data, logins: Mapping[str, Login] | None = None) -> Base:
    return open_base(reference, blobs=data.blobs, directory=data.root / "bases", logins=logins or {})


def check(image: BaseImage, data: Data) -> None:
    """Every layer is stored, in its size, and uncompresses to its diff_id."""
    for layer in image.layers:
        blob = b"".join(data.blobs.read(layer.descriptor.digest))
        assert len(blob) == layer.descriptor.size
        assert layer.descriptor.media_type == OCI + "layer.v1.tar+gzip"
        assert Digest.of(gzip.decompress(blob)) == layer.diff_id


def files_of(image: BaseImage, data: Data) -> set[str]:
    names: set[str] = set()
    for layer in image.layers:
        blob = b"".join(data.blobs.read(layer.descriptor.digest))
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))) as tar:
            names.update(tar.getnames())
    return names


class TestPlatforms:
    @pytest.mark.parametrize("platform", sorted(OCI_PLATFORMS))
    def test_there_and_back(self, platform: str) -> None:
        assert conda_platform(oci_platform(platform)) == platform

    @pytest.mark.parametrize(
        ("oci", "conda"),
        [
            ({"os": "linux", "architecture": "arm64", "variant": "v8"}, "linux-aarch64"),
            ({"os": "linux", "architecture": "arm"}, "linux-armv7l"),
            ({"os": "linux", "architecture": "amd64", "variant": "v3"}, None),
            ({"os": "windows", "architecture": "amd64"}, None),
            ({"os": "unknown", "architecture": "unknown"}, None),
            ({}, None),
        ],
    )
    def test_spellings(self, oci: dict[str, str], conda: str | None) -> None:
        assert conda_platform(oci) == conda

    def test_no_image_for_other_systems(self) -> None:
        with pytest.raises(ValueError, match=r"osx-64.*linux-64"):
            oci_platform("osx-64")


class TestReferences:
    @pytest.mark.parametrize(
        ("text", "whole"),
        [
            ("docker.io/library/debian:stable-slim", "docker.io/library/debian:stable-slim"),
            ("docker.io/debian", "docker.io/library/debian:latest"),
            ("index.docker.io/library/debian:12", "docker.io/library/debian:12"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/a/b__c/d-e:T_1.x", "localhost:5000/a/b__c/d-e:T_1.x"),
            ("[::1]:5000/x:1", "[::1]:5000/x:1"),
            ("registry:5000/x:1", "registry:5000/x:1"),
            (f"ghcr.io/a/b@sha256:{'0' * 64}", f"ghcr.io/a/b@sha256:{'0' * 64}"),
            (f"ghcr.io/a/b:1@sha256:{'0' * 64}", f"ghcr.io/a/b:1@sha256:{'0' * 64}"),
        ],
    )
    def test_good(self, text: str, whole: str) -> None:
        assert str(ImageReference.parse(text)) == whole

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "hots",
            "debian:12",
            "library/debian",
            "docker.io/",
            "docker.io/A",
            "docker.io/a//b",
            "docker.io/../b",
            "docker.io/a:",
            "docker.io/a:b/c",
            "docker.io/a:1\n",
            "docker.io/a@sha256:00",
            "docker.io/a@",
            "user@docker.io/a",
            "http://docker.io/a",
        ],
    )
    def test_bad(self, text: str, data: Data) -> None:
        with pytest.raises(BaseUnavailable, match="a base is host, scratch"):
            opened(text, data)


class TestLogins:
    def test_docker(self, tmp_path: Path) -> None:
        encoded = base64.b64encode(b"me:pass:word").decode()
        document = {
            "auths": {"https://index.docker.io/v1/": {"auth": encoded}, "ghcr.io": {"auth": encoded}, "helper.io": {}},
            "credsStore": "desktop",
        }
        (tmp_path / "config.json").write_text(json.dumps(document))
        login = Login("me", "pass:word")
        assert read_logins(tmp_path / "config.json") == {"docker.io": login, "ghcr.io": login}

    def test_rattler(self, tmp_path: Path) -> None:
        document = {"ghcr.io": {"BasicHTTP": {"username": "me", "password": "x"}}, "other.io": {"CondaToken": "t"}}
        (tmp_path / "credentials.json").write_text(json.dumps(document))
        assert read_logins(tmp_path / "credentials.json") == {"ghcr.io": Login("me", "x")}

    @pytest.mark.parametrize(
        "text", ["", "[]", "{", '{"auths": {"a.io": {"auth": "!"}}}', '{"a.io": {"BasicHTTP": {}}}']
    )
    def test_malformed(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(CredentialsInvalid):
            read_logins(tmp_path / "config.json")

    def test_a_password_shows_nowhere(self) -> None:
        assert "hidden" not in f"{Login('me', 'hidden')!r} {Login('me', 'hidden')}"


class TestElf:
    def test_what_the_interpreter_needs(self) -> None:
        elf = read_elf(Path(sys.executable).resolve())
        assert elf is not None
        assert elf.interpreter is not None
        assert Path(elf.interpreter).exists()
        assert any(name.startswith("libc.so") for name in elf.needed)

    @pytest.mark.parametrize("cut", [0, 3, 40, 64, 100, 1000])
    def test_what_is_cut_short_is_none_or_right(self, tmp_path: Path, cut: int) -> None:
        (tmp_path / "cut").write_bytes(Path(sys.executable).read_bytes()[:cut])
        assert read_elf(tmp_path / "cut") is None


class TestHost:
    async def test_the_same_bytes_each_time(self, open_data: OpenData) -> None:
        directories = [open_data(name) for name in ("a", "b")]
        made = [await opened("host", each).resolve(OWN) for each in directories]
        assert made[0] == made[1]
        check(made[0], directories[0])
        assert made[0].has_shell
        assert made[0].glibc == os.confstr("CS_GNU_LIBC_VERSION").split()[1]  # type: ignore[union-attr]  # glibc here
        assert made[0].layers[0].descriptor.size < 12 << 20

    async def test_a_lost_blob_is_made_again(self, data: Data) -> None:
        base = opened("host", data)
        image = await base.resolve(OWN)
        data.blobs.lose(image.layers[0].descriptor.digest)
        assert await base.resolve(OWN) == image
        check(image, data)

    async def test_only_its_own_platform(self, data: Data) -> None:
        with pytest.raises(BaseUnavailable, match=f"{OWN}, not {OTHER}"):
            await opened("host", data).resolve(OTHER)

    async def test_every_library_comes_along(self, data: Data, tmp_path: Path) -> None:
        root = await unpacked_host(data, tmp_path)
        present = {path.name for path in root.rglob("*.so*")}
        assert {"libpthread.so.0", "libdl.so.2", "librt.so.1", "libm.so.6", "libresolv.so.2"} <= present
        assert any(name.startswith("libnss_dns") for name in present)
        found = [
            elf for path in root.rglob("*") if path.is_file() and not path.is_symlink() and (elf := read_elf(path))
        ]
        assert len(found) > 20
        assert {name for elf in found for name in elf.needed} <= present

    async def test_no_path_twice_and_parents_first(self, data: Data) -> None:
        image = await opened("host", data).resolve(OWN)
        blob = b"".join(data.blobs.read(image.layers[0].descriptor.digest))
        seen: set[str] = set()
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))) as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                assert str(path) not in seen
                assert str(path.parent) == "." or str(path.parent) in seen
                assert member.mtime == 0
                assert (member.uid, member.gid) == ((1000, 1000) if member.name == "home/conda" else (0, 0))
                seen.add(str(path))

    async def test_a_machine_whose_bin_is_a_directory(self, data: Data, tmp_path: Path) -> None:
        """As Debian was before usrmerge: /bin and /lib are directories beside /usr/bin and /usr/lib."""
        merged = await unpacked_host(data, tmp_path)
        old = tmp_path / "old"
        for name in ("bin", "lib", "lib64"):
            shutil.copytree(merged / name, old / name, symlinks=True)
        (old / "usr/bin").mkdir(parents=True)
        shutil.move(old / "bin/env", old / "usr/bin/env")
        image = await HostBase(data.blobs, old).resolve(OWN)
        names = files_of(image, data)
        assert {"bin/sh", "bin/ls", "usr/bin/env"} <= names
        assert "usr/bin/ls" not in names
        assert image.has_shell

    async def test_a_machine_without_a_loader(self, data: Data, tmp_path: Path) -> None:
        with pytest.raises(BaseUnavailable, match=r"no dynamic loader.*debian"):
            await HostBase(data.blobs, tmp_path).resolve(OWN)

    async def test_it_runs_in_a_chroot(self, data: Data, tmp_path: Path) -> None:
        chroot = chroot_or_skip()
        root = await unpacked_host(data, tmp_path)
        script = "ls / && touch /tmp/by-$(id -u) && id -un"
        for user, name in ((0, "root"), (1000, "conda")):
            done = subprocess.run(
                [chroot, f"--userspec={user}:{user}", str(root), "/bin/sh", "-c", script],
                capture_output=True,
                text=True,
                env={"PATH": "/usr/bin:/bin"},
            )
            assert done.returncode == 0, done.stderr
            assert name in done.stdout.splitlines()

    async def test_every_tool_starts_in_a_chroot(self, data: Data, tmp_path: Path) -> None:
        chroot = chroot_or_skip()
        root = await unpacked_host(data, tmp_path)
        (root / "dev/null").touch()
        # 127 is the shell's, and the loader's, for what cannot be started
        script = (
            'for tool in /usr/bin/*; do "$tool" --help </dev/null >/dev/null 2>&1; [ $? = 127 ] && echo $tool; done; :'
        )
        done = subprocess.run(
            [chroot, str(root), "/bin/sh", "-c", script],
            capture_output=True,
            text=True,
            env={"PATH": "/usr/bin:/bin"},
        )
        assert (done.stdout, done.stderr) == ("", "")

    @pytest.mark.clients
    async def test_it_runs_in_docker(self, data: Data, tmp_path: Path) -> None:
        need_docker()
        image = await opened("host", data).resolve(OWN)
        name = f"condery-test/{tmp_path.name}:host"
        write_docker_archive(tmp_path / "host.tar", as_image(image, data), name=name)
        run("docker", "load", "-q", "-i", str(tmp_path / "host.tar"))
        try:
            docker = ("docker", "run", "--rm", "--network", "none")
            assert "etc" in run(*docker, name, "sh", "-c", "ls /").split()
            assert run(*docker, "--user", "1000", name, "sh", "-c", "id -un; touch ~/x /tmp/x; ls ~").split() == [
                "conda",
                "x",
            ]
            assert "usr" in run(*docker, "--read-only", "--user", "1000", name, "sh", "-c", "ls /").split()
            assert run(*docker, "-e", "LANG=C.UTF-8", name, "sh", "-c", "printf Ä | wc -m").strip() == "1"
        finally:
            run("docker", "image", "rm", name)


class TestScratch:
    async def test_nothing_for_every_platform(self, data: Data) -> None:
        for platform in OCI_PLATFORMS:
            image = await opened("scratch", data).resolve(platform)
            assert (image.layers, image.digest, image.has_shell, image.glibc) == ((), None, False, None)

    async def test_unknown_platform(self, data: Data) -> None:
        with pytest.raises(BaseUnavailable, match="win-64"):
            await opened("scratch", data).resolve("win-64")


class TestRegistry:
    pytestmark = pytest.mark.clients

    @pytest.fixture
    def address(self, tmp_path: Path) -> Iterator[str]:
        with reference_registry(tmp_path / "registry") as address:
            yield address

    @pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
    async def test_each_platform_of_an_index(self, images: Images, address: str, data: Data, docker: bool) -> None:
        entries = {platform: images.image([GLIBC_2_31, {platform: b""}], platform, docker=docker) for platform in PAIR}
        index = images.index(entries, docker=docker)
        push(f"{address}/debian:12", images.stored(index))
        base = opened(f"{address}/debian:12", data)
        for platform in PAIR:
            image = await base.resolve(platform)
            check(image, data)
            assert platform in files_of(image, data)
            assert (image.digest, image.reference) == (index.digest, f"{address}/debian:12")
            assert (image.glibc, image.has_shell) == ("2.31", True)
            assert image.config["config"] == {"Env": ["COLOUR=blue"]}
        with pytest.raises(BaseUnavailable, match=r"linux-s390x, only for linux-64, linux-aarch64"):
            await base.resolve("linux-s390x")

    async def test_one_manifest(self, images: Images, address: str, data: Data) -> None:
        image = images.image([{"x": b""}])
        push(f"{address}/x:1", images.stored(image))
        resolved = await opened(f"{address}/x@{image.digest}", data).resolve("linux-64")
        assert (resolved.digest, resolved.has_shell, resolved.glibc) == (image.digest, False, None)
        with pytest.raises(BaseUnavailable, match="only for linux-64"):
            await opened(f"{address}/x:1", data).resolve("linux-aarch64")

    async def test_pinned_until_refreshed(self, images: Images, address: str, data: Data) -> None:
        reference = f"{address}/x:1"
        old, new = (
            images.index({platform: images.image([{state: b""}], platform) for platform in PAIR})
            for state in ("old", "new")
        )
        push(reference, images.stored(old))
        first = await opened(reference, data).resolve("linux-64")
        push(reference, images.stored(new))
        # Another process, and another platform, are of the same pinned index.
        assert await opened(reference, data).resolve("linux-64") == first
        assert (await opened(reference, data).resolve("linux-aarch64")).digest == old.digest
        base = opened(reference, data)
        assert isinstance(base, RegistryBase)
        assert await base.refresh() == new.digest
        assert "new" in files_of(await base.resolve("linux-64"), data)

    async def test_without_network_once_pulled(self, images: Images, data: Data, tmp_path: Path) -> None:
        with reference_registry(tmp_path / "registry") as address:
            push(f"{address}/x:1", images.stored(images.image([{"x": b""}])))
            first = await opened(f"{address}/x:1", data).resolve("linux-64")
        base = opened(f"{address}/x:1", data)
        data.blobs.make_old()
        assert await base.resolve("linux-64") == first
        assert data.blobs.old() == set()
        assert isinstance(base, RegistryBase)
        with pytest.raises(BaseUnavailable, match="cannot be reached"):
            await base.refresh()
        assert await base.resolve("linux-64") == first
        data.blobs.lose(first.layers[0].descriptor.digest)
        with pytest.raises(BaseUnavailable, match="cannot be reached"):
            await base.resolve("linux-64")

    async def test_password_and_tokens(self, images: Images, open_data: OpenData, tmp_path: Path) -> None:
        stored = images.stored(images.image([{"x": b""}]))
        with token_auth(tmp_path) as (tokens, asked):
            for name, auth in (("password", password_auth(tmp_path)), ("token", tokens)):
                with reference_registry(tmp_path / name, auth) as address:
                    logins = {address: Login(USER, PASSWORD)}
                    push(f"{address}/x:1", stored, logins=logins)
                    data = open_data(f"data-{name}")
                    check(await opened(f"{address}/x:1", data, logins).resolve("linux-64"), data)
                    if name == "password":
                        with pytest.raises(BaseUnavailable, match="asks for a login"):
                            await opened(f"{address}/x:1", open_data("anonymous")).resolve("linux-64")
            assert asked.scopes[-1] == "repository:x:pull"

    async def test_damaged_there_stores_nothing_here(self, images: Images, data: Data, tmp_path: Path) -> None:
        with reference_registry(tmp_path / "registry") as address:
            image = images.image([{"x": b"content"}])
            push(f"{address}/x:1", images.stored(image))
            layer = Digest.parse(json.loads(images.manifest(image.digest))["layers"][0]["digest"])
            (path,) = (tmp_path / "registry/store").rglob(f"{layer.hex}/data")
            path.write_bytes(b"?" * path.stat().st_size)
            with pytest.raises(BaseUnavailable, match="content has digest"):
                await opened(f"{address}/x:1", data).resolve("linux-64")
            assert data.blobs.everything() == ([], [], [])
            path.write_bytes(images.blobs.path(layer).read_bytes())
            check(await opened(f"{address}/x:1", data).resolve("linux-64"), data)

    async def test_no_such_tag(self, address: str, data: Data) -> None:
        with pytest.raises(BaseUnavailable, match=r"x:1: manifest 1: 404 MANIFEST_UNKNOWN|NAME_UNKNOWN"):
            await opened(f"{address}/x:1", data).resolve("linux-64")
        assert not list((data.root / "bases").glob("*"))


PAIR = ("linux-64", "linux-aarch64")


class _Hostile(http.server.BaseHTTPRequestHandler):
    """A registry that answers everything with what its `answer` says, and remembers what it was told."""

    answer: tuple[int, dict[str, str], bytes] = (200, {}, b"")
    told: list[str]

    def do_GET(self) -> None:
        self.told.append(self.headers.get("Authorization", ""))
        status, headers, body = self.answer
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def hostile(status: int, headers: dict[str, str], body: bytes = b"") -> Iterator[tuple[str, list[str]]]:
    told: list[str] = []
    handler = type("Handler", (_Hostile,), {"answer": (status, headers, body), "told": told})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "headers", "body", "reason"),
    [
        (302, {"Location": "http://169.254.169.254/latest/meta-data"}, b"", "internal address"),
        (302, {"Location": "file:///etc/passwd"}, b"", "refers to file"),
        (
            401,
            {"WWW-Authenticate": 'Bearer realm="http://192.0.2.1/token",service="x"'},
            b"",
            "send its login to 192.0.2.1",
        ),
        (401, {"WWW-Authenticate": 'Bearer realm="http://169.254.169.254/token"'}, b"", "internal address"),
        (401, {}, b"", "no://"),
        (500, {}, b'{"errors": [{"code": "UNKNOWN", "message": "no luck"}]}', "500 UNKNOWN no luck"),
        (403, {}, b"[" * 5000, "403 Forbidden"),
        (200, {}, b"[" * 100_000, "not JSON"),
        (200, {}, b"x" * ((4 << 20) + 1), "larger than"),
        (200, {}, b'{"schemaVersion": 1}', "schema 1"),
        (200, {}, b'{"schemaVersion": 2, "manifests": [], "config": {}, "layers": []}', "neither"),
        (200, {}, b'{"schemaVersion": 2, "manifests": [{"digest": "x"}]}', "malformed"),
        (200, {}, b'{"schemaVersion": 2, "manifests": []}', "other systems"),
    ],
)
async def test_hostile_registries(data: Data, status: int, headers: dict[str, str], body: bytes, reason: str) -> None:
    with hostile(status, headers, body) as (address, told):
        with pytest.raises(BaseUnavailable, match=reason):
            await opened(f"{address}/x:1", data, {address: Login("me", "secret")}).resolve("linux-64")
    assert told == [""]


def test_a_blob_longer_than_announced_is_cut_off() -> None:
    descriptor = Descriptor(OCI + "layer.v1.tar", Digest.of(b""), 10)
    with hostile(200, {}, b"x" * (8 << 20)) as (address, _):
        repository = RemoteRepository(ImageReference.parse(f"{address}/x:1"), logins={})
        with pytest.raises(RemoteUnavailable, match="longer than the 10 bytes"):
            list(repository.blob(descriptor))


class TestLayout:
    async def test_what_publish_writes(self, images: Images, data: Data, tmp_path: Path) -> None:
        index = images.index({platform: images.image([GLIBC_2_31], platform) for platform in PAIR})
        write_oci_layout(tmp_path / "layout", images.stored(index), tag="12")
        for reference in (f"oci-layout:{tmp_path}/layout", f"oci-layout:{tmp_path}/layout:12"):
            image = await opened(reference, data).resolve("linux-aarch64")
            check(image, data)
            assert (image.digest, image.glibc, image.has_shell) == (index.digest, "2.31", True)
            assert str(tmp_path) not in image.reference
        with pytest.raises(BaseUnavailable, match="only for linux-64, linux-aarch64"):
            await opened(f"oci-layout:{tmp_path}/layout", data).resolve("linux-s390x")

    async def test_what_it_holds_later_is_the_base_later(self, images: Images, data: Data, tmp_path: Path) -> None:
        base = opened(f"oci-layout:{tmp_path}/layout", data)
        for state in ("old", "new"):
            shutil.rmtree(tmp_path / "layout", ignore_errors=True)
            write_oci_layout(tmp_path / "layout", images.stored(images.image([{state: b""}])))
            assert state in files_of(await base.resolve("linux-64"), data)

    @pytest.mark.parametrize(
        ("damage", "reason"),
        [
            (lambda layout: (layout / "index.json").unlink(), "no index.json"),
            (lambda layout: (layout / "oci-layout").write_text('{"imageLayoutVersion": "9"}'), "version 1"),
            (lambda layout: (layout / "index.json").write_text("{"), "not JSON"),
            (lambda layout: (layout / "index.json").write_text('{"manifests": 1}'), "malformed"),
            (lambda layout: (layout / "index.json").write_text('{"manifests": []}'), "other systems"),
            (lambda layout: shutil.rmtree(layout / "blobs"), "has no blobs/"),
            (lambda layout: [file.write_bytes(b"{}") for file in layout.glob("blobs/*/*")], "another digest"),
            (lambda layout: shutil.rmtree(layout), "no oci-layout"),
        ],
    )
    async def test_damaged(self, images: Images, data: Data, tmp_path: Path, damage: object, reason: str) -> None:
        write_oci_layout(tmp_path / "layout", images.stored(images.image([{"x": b""}])))
        assert callable(damage)
        damage(tmp_path / "layout")
        with pytest.raises(BaseUnavailable, match=reason):
            await opened(f"oci-layout:{tmp_path}/layout", data).resolve("linux-64")

    async def test_lies(self, images: Images, open_data: OpenData, tmp_path: Path) -> None:
        image = images.image([{"x": b""}])
        manifest = json.loads(images.manifest(image.digest))
        layers = manifest["layers"]
        nested = images.index({"linux-64": image})
        for _ in range(3):
            nested = images.document(OCI + "index.v1+json", {"manifests": [nested.to_json()]})
        no_tar = images.blob(OCI + "layer.v1.tar+gzip", gzip.compress(b"no tar at all" * 100))
        for number, (descriptor, reason) in enumerate(
            [
                (images.index({"linux-aarch64": image}), "index says linux-aarch64"),
                (images.document(OCI + "manifest.v1+json", {**manifest, "layers": []}), "0 layers, its config 1"),
                (
                    images.document(OCI + "manifest.v1+json", {**manifest, "layers": [{**layers[0], "size": 1}]}),
                    "not 1 as its manifest says",
                ),
                (
                    images.document(
                        OCI + "manifest.v1+json",
                        {
                            **manifest,
                            "layers": [{**layers[0], "mediaType": DOCKER + "image.rootfs.foreign.diff.tar.gzip"}],
                        },
                    ),
                    "cannot be passed on",
                ),
                (
                    images.document(OCI + "manifest.v1+json", {**manifest, "layers": [no_tar.to_json()]}),
                    "cannot be read",
                ),
                (nested, "nested"),
            ]
        ):
            layout = tmp_path / f"layout-{number}"
            self._write_as_is(layout, images, descriptor)
            platform = "linux-aarch64" if number == 0 else "linux-64"
            with pytest.raises(BaseUnavailable, match=reason):
                await opened(f"oci-layout:{layout}", open_data(str(number))).resolve(platform)

    def _write_as_is(self, layout: Path, images: Images, descriptor: Descriptor) -> None:
        """A layout of everything that was ever made: what publishes would refuse the lies."""
        (layout / "blobs/sha256").mkdir(parents=True)
        (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [descriptor.to_json()]}))
        for digest, body in images.manifests.items():
            (layout / "blobs/sha256" / Digest(digest).hex).write_bytes(body)
        for digest in images.blobs.everything().digests:
            shutil.copy(images.blobs.path(digest), layout / "blobs/sha256" / digest.hex)

    @pytest.mark.clients
    async def test_what_skopeo_writes(self, images: Images, data: Data, tmp_path: Path) -> None:
        need("skopeo")
        write_oci_layout(tmp_path / "layout", images.stored(images.image([GLIBC_2_31])), tag="a")
        for tag in ("one", "two"):
            run("skopeo", "--insecure-policy", "copy", "-q", f"oci:{tmp_path}/layout:a", f"oci:{tmp_path}/copy:{tag}")
        check(await opened(f"oci-layout:{tmp_path}/copy:two", data).resolve("linux-64"), data)
        with pytest.raises(BaseUnavailable, match="it has one, two"):
            await opened(f"oci-layout:{tmp_path}/copy", data).resolve("linux-64")
        with pytest.raises(BaseUnavailable, match="0 images called three"):
            await opened(f"oci-layout:{tmp_path}/copy:three", data).resolve("linux-64")


class TestDockerArchive:
    def _write(self, path: Path, layers: list[bytes], *, diff_ids: list[bytes] | None = None) -> None:
        """The form of `docker save` before 25: uncompressed layers, the second of two equal ones a link."""
        config = {
            **oci_platform("linux-64"),
            "config": {"Cmd": ["sh"]},
            "rootfs": {"diff_ids": [Digest.of(layer) for layer in diff_ids or layers]},
        }
        names = [f"{number}/layer.tar" for number in range(len(layers))]
        manifest = [{"Config": "config.json", "RepoTags": ["x:1", "y:2"], "Layers": names}]
        files: dict[str, bytes | str] = dict(zip(names, layers, strict=True))
        if len(layers) > 1 and layers[0] == layers[1]:
            files[names[1]] = "../0/layer.tar"
        files |= {"config.json": json.dumps(config).encode(), "manifest.json": json.dumps(manifest).encode()}
        path.write_bytes(tar_of(files))

    async def test_uncompressed_layers_and_links(self, data: Data, tmp_path: Path) -> None:
        layer = tar_of(GLIBC_2_31)
        self._write(tmp_path / "it.tar", [layer, layer])
        image = await opened(f"docker-archive:{tmp_path}/it.tar:x:1", data).resolve("linux-64")
        check(image, data)
        assert image.layers[0] == image.layers[1]
        assert (image.glibc, image.has_shell, image.config["config"]) == ("2.31", True, {"Cmd": ["sh"]})
        assert not list((data.root / "bases").iterdir())

    async def test_tags(self, data: Data, tmp_path: Path) -> None:
        self._write(tmp_path / "it.tar", [tar_of({})])
        for tag in ("", ":1", ":2", ":y:2"):
            await opened(f"docker-archive:{tmp_path}/it.tar{tag}", data).resolve("linux-64")
        with pytest.raises(BaseUnavailable, match="0 images called 3; it has x:1, y:2"):
            await opened(f"docker-archive:{tmp_path}/it.tar:3", data).resolve("linux-64")
        with pytest.raises(BaseUnavailable, match="only for linux-64"):
            await opened(f"docker-archive:{tmp_path}/it.tar", data).resolve("linux-aarch64")

    async def test_damaged(self, data: Data, tmp_path: Path) -> None:
        path = tmp_path / "it.tar"
        base = opened(f"docker-archive:{path}", data)
        with pytest.raises(BaseUnavailable, match="No such file"):
            await base.resolve("linux-64")
        self._write(path, [tar_of({"a": b""})], diff_ids=[b"another"])
        with pytest.raises(BaseUnavailable, match="has digest"):
            await base.resolve("linux-64")
        whole = path.read_bytes()
        path.write_bytes(gzip.compress(whole))
        with pytest.raises(BaseUnavailable, match="decompress it first"):
            await base.resolve("linux-64")
        path.write_bytes(tar_of({"manifest.json": b'[{"Config": 1}]'}))
        with pytest.raises(BaseUnavailable, match="malformed"):
            await base.resolve("linux-64")
        path.write_bytes(tar_of({"manifest.json": b'[{"Config": "c", "Layers": []}]'}))
        with pytest.raises(BaseUnavailable, match="it has no c"):
            await base.resolve("linux-64")
        path.write_bytes(tar_of({"something": b""}))
        with pytest.raises(BaseUnavailable, match="no oci-layout"):
            await base.resolve("linux-64")

    async def test_what_publish_writes(self, images: Images, data: Data, tmp_path: Path) -> None:
        image = images.image([GLIBC_2_31, {"b": b"b"}])
        write_docker_archive(tmp_path / "it.tar", images.stored(image), name="x:1")
        check(await opened(f"docker-archive:{tmp_path}/it.tar", data).resolve("linux-64"), data)

    @pytest.mark.clients
    async def test_what_docker_and_skopeo_write(self, images: Images, data: Data, tmp_path: Path) -> None:
        need_docker()
        need("skopeo")
        name = f"condery-test/{tmp_path.name}:v1"
        image = images.image([GLIBC_2_31, {"b": b"b"}])
        write_docker_archive(tmp_path / "in.tar", images.stored(image), name=name)
        run("docker", "load", "-q", "-i", str(tmp_path / "in.tar"))
        try:
            run("docker", "save", "-o", str(tmp_path / "docker.tar"), name)
        finally:
            run("docker", "image", "rm", name)
        run("skopeo", "--insecure-policy", "copy", "-q", f"docker-archive:{tmp_path}/in.tar",
            f"docker-archive:{tmp_path}/skopeo.tar:{name}")  # fmt: skip
        found = [
            await opened(f"docker-archive:{tmp_path}/{each}.tar:v1", data).resolve("linux-64")
            for each in ("docker", "skopeo")
        ]
        for each in found:
            check(each, data)
            assert (each.glibc, each.has_shell) == ("2.31", True)
        assert found[0].layers == found[1].layers


@pytest.mark.parametrize("kind", ["host", "oci-layout", "docker-archive"])
async def test_a_base_that_is_built_on_is_safe_from_garbage_collection(
    images: Images, data: Data, tmp_path: Path, kind: str
) -> None:
    image = images.stored(images.image([GLIBC_2_31, {"b": b"b"}], OWN))
    if kind == "oci-layout":
        write_oci_layout(tmp_path / "it", image)
    elif kind == "docker-archive":
        write_docker_archive(tmp_path / "it", image)
    base = opened("host" if kind == "host" else f"{kind}:{tmp_path}/it", data)
    resolved = await base.resolve(OWN)
    layers = {layer.descriptor.digest for layer in resolved.layers}
    for each in (base, opened(base.reference, data)):
        data.blobs.make_old()
        assert await each.resolve(OWN) == resolved
        assert not layers & data.blobs.old()
        data.blobs.lose(min(layers))
        assert await each.resolve(OWN) == resolved
        check(resolved, data)


async def unpacked_host(data: Data, tmp_path: Path) -> Path:
    image = await opened("host", data).resolve(OWN)
    blob = b"".join(data.blobs.read(image.layers[0].descriptor.digest))
    root = tmp_path / "root"
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))) as tar:
        # links of a root file system are absolute, which safer filters refuse
        extract_all(tar, root, numeric_owner=True)
    return root


def as_image(base: BaseImage, data: Data) -> StoredImage:
    """An image of nothing but the base."""
    images = Images(data.blobs)
    config = {
        **oci_platform(base.platform),
        "config": {"Env": ["PATH=/usr/bin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in base.layers]},
    }
    manifest = {
        "config": images.blob(OCI + "config.v1+json", json.dumps(config).encode()).to_json(),
        "layers": [layer.descriptor.to_json() for layer in base.layers],
    }
    return images.stored(images.document(OCI + "manifest.v1+json", manifest))


def chroot_or_skip() -> str:
    program = shutil.which("chroot", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None or os.geteuid() != 0:
        pytest.skip("chroot needs root")
    return program


def need(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def need_docker() -> None:
    need("docker")
    if subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("there is no docker daemon")


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
