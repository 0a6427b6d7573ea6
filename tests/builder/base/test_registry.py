"""Bases from registries, friendly and hostile."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import pytest

from builder.base.registry import RegistryBase
from builder.errors import BaseUnavailable, LoginsFileUnusable, RemoteUnavailable
from builder.publish import push
from builder.remote.logins import Login, read_logins
from builder.remote.reference import ImageReference
from builder.remote.repository import RemoteRepository
from storage.database import tables
from storage.digest import Descriptor, Digest
from tests.builder.base.support import PAIR, Data, OpenData, check, files_of, opened
from tests.support.builder.images import GLIBC_2_31, OCI, Images
from tests.support.servers.reference_registry import PASSWORD, USER, password_auth, reference_registry, token_auth


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
        with pytest.raises(LoginsFileUnusable):
            read_logins(tmp_path / "config.json")

    def test_a_password_shows_nowhere(self) -> None:
        assert "hidden" not in f"{Login('me', 'hidden')!r} {Login('me', 'hidden')}"


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

    async def test_pinned_until_the_pin_is_removed(self, images: Images, address: str, data: Data) -> None:
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
        await data.blobs.elsewhere(forget_pins(data))
        base = opened(reference, data)
        assert "new" in files_of(await base.resolve("linux-64"), data)

    async def test_what_makes_no_base_is_not_pinned(self, images: Images, address: str, data: Data) -> None:
        """Nor is it for a platform that it lacks: the tag's next image may have it."""
        reference = f"{address}/x:1"
        base = opened(reference, data)
        push(reference, images.stored(images.image([{"x": b""}], "linux-64")))
        with pytest.raises(BaseUnavailable, match="only for linux-64"):
            await base.resolve("linux-aarch64")
        new = images.image([{"x": b""}], "linux-aarch64")
        push(reference, images.stored(new))
        assert (await base.resolve("linux-aarch64")).digest == new.digest

    async def test_every_machine_uses_what_the_first_pinned(
        self, images: Images, address: str, data: Data, tmp_path: Path
    ) -> None:
        """They share the database and the store, and not the directory."""
        reference = f"{address}/x:1"
        old, new = (images.image([{state: b""}]) for state in ("old", "new"))
        push(reference, images.stored(old))
        first = await opened(reference, data).resolve("linux-64")
        push(reference, images.stored(new))
        assert await opened(reference, replace(data, root=tmp_path / "another")).resolve("linux-64") == first
        assert first.digest == old.digest
        assert not (data.root / "bases").exists()

    async def test_all_who_pin_at_once_pin_the_same(self, images: Images, address: str, data: Data) -> None:
        reference = f"{address}/x:1"
        push(reference, images.stored(images.image([{"x": b""}])))
        found = await asyncio.gather(*(opened(reference, data).resolve("linux-64") for _ in range(4)))
        assert len({image.digest for image in found}) == 1

    @pytest.mark.parametrize("pinned", ["nothing", "another"])
    async def test_a_pin_of_an_older_version(self, images: Images, data: Data, tmp_path: Path, pinned: str) -> None:
        """Its file is moved to the database, and what it knew answers without a network; never over another's pin."""
        with reference_registry(tmp_path / "registry") as address:
            reference = f"{address}/x:1"
            old, new = (images.image([{state: b""}]) for state in ("old", "new"))
            push(reference, images.stored(old))
            image = await opened(reference, data).resolve("linux-64")
            if pinned == "another":
                push(reference, images.stored(new))
                await data.blobs.elsewhere(forget_pins(data))
                assert (await opened(reference, data).resolve("linux-64")).digest == new.digest
        base = opened(reference, data)
        assert isinstance(base, RegistryBase)
        file = base._old_record
        assert file is not None
        file.parent.mkdir(parents=True, exist_ok=True)
        record = {"reference": reference, "digest": old.digest, "platforms": {"linux-64": image.to_json()}}
        file.write_text(json.dumps(record))
        if pinned == "nothing":
            await data.blobs.elsewhere(forget_pins(data))
            assert await base.resolve("linux-64") == image
            assert await opened(reference, data).resolve("linux-64") == image
        else:
            assert (await base.resolve("linux-64")).digest == new.digest
        assert not file.exists()

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"digest": "x", "platforms": {}}', '{"digest": null}'])
    async def test_a_broken_file_of_an_older_version_is_ignored(
        self, images: Images, address: str, data: Data, text: str
    ) -> None:
        reference = f"{address}/x:1"
        push(reference, images.stored(images.image([{"x": b""}])))
        base = opened(reference, data)
        assert isinstance(base, RegistryBase)
        assert base._old_record is not None
        base._old_record.parent.mkdir(parents=True, exist_ok=True)
        base._old_record.write_text(text)
        assert (await base.resolve("linux-64")).layers

    async def test_without_network_once_pulled(self, images: Images, data: Data, tmp_path: Path) -> None:
        with reference_registry(tmp_path / "registry") as address:
            push(f"{address}/x:1", images.stored(images.image([{"x": b""}])))
            first = await opened(f"{address}/x:1", data).resolve("linux-64")
        base = opened(f"{address}/x:1", data)
        data.blobs.make_old()
        assert await base.resolve("linux-64") == first
        assert data.blobs.old() == set()
        data.blobs.lose(first.layers[0].descriptor.digest)
        with pytest.raises(BaseUnavailable, match="cannot be reached"):
            await base.resolve("linux-64")

    async def test_password_and_tokens(self, images: Images, open_data: OpenData, tmp_path: Path) -> None:
        stored = images.stored(images.image([{"x": b""}]))
        with token_auth(tmp_path) as (tokens, asked):
            for name, auth in (("password", password_auth(tmp_path)), ("token", tokens)):
                with reference_registry(tmp_path / name, auth) as address:
                    logins = {address: Login(USER, PASSWORD)}
                    push(f"{address}/x:1", stored, logins=logins, insecure=[asked.host])
                    data = open_data(f"data-{name}")
                    check(await opened(f"{address}/x:1", data, logins, [asked.host]).resolve("linux-64"), data)
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


async def forget_pins(data: Data) -> None:
    async with data.blobs.stores.database.writing() as connection:
        await connection.execute(tables.base_image.delete())
        await connection.execute(tables.base_pin.delete())


async def count_pins(data: Data) -> int:
    async with data.blobs.stores.database.reading() as connection:
        return len((await connection.execute(tables.base_pin.select())).all())


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
    with serving(handler) as address:
        yield address, told


@contextlib.contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
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
        (401, {"WWW-Authenticate": 'Bearer realm="http://169.254.169.254/token"'}, b"", "send its login to 169"),
        (401, {}, b"", "names '' as its token server"),
        (401, {"WWW-Authenticate": 'Bearer realm="/token"'}, b"", "names '/token' as its token server"),
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
    assert await data.blobs.elsewhere(count_pins(data)) == 0


class _Repeating(http.server.BaseHTTPRequestHandler):
    """Asks for a login or, at /v2/by-token/, for a token, and answers with what it then gets."""

    def do_GET(self) -> None:
        shown = self.headers.get("Authorization")
        if self.path.startswith("/token"):
            self._answer(200, json.dumps({"token": "token-that-was-given"}))
        elif shown is None:
            realm = f"http://127.0.0.1:{self.server.server_port}/token"  # type: ignore[attr-defined] # an HTTPServer has a port, which its base class does not declare
            kind = "Bearer" if "by-token" in self.path else "Basic"
            self._answer(401, "{}", {"WWW-Authenticate": f'{kind} realm="{realm}"'})
        else:
            told = f"{shown} {quote(shown)}"
            if shown.startswith("Basic"):
                told += " " + base64.b64decode(shown.split()[1]).decode()
            if "in-body" in self.path:
                self._answer(403, json.dumps({"errors": [{"code": "DENIED", "message": told}]}))
            else:
                self._answer(403, "", reason=told)

    def _answer(
        self, status: int, body: str, headers: Mapping[str, str] = MappingProxyType({}), reason: str = ""
    ) -> None:
        self.send_response(status, reason or None)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("repository", ["by-login/in-body", "by-login/x", "by-token/in-body", "by-token/x"])
async def test_a_registry_that_repeats_what_it_got_shows_no_secret(data: Data, repository: str) -> None:
    password = "s3cret/of the=base"
    with serving(_Repeating) as address:
        with pytest.raises(BaseUnavailable, match=r"\*\*\*") as caught:
            await opened(f"{address}/{repository}:1", data, {address: Login("me", password)}).resolve("linux-64")
        target = ImageReference.parse(f"{address}/{repository}:1")
        with pytest.raises(RemoteUnavailable, match=r"403") as other:
            RemoteRepository(target, logins={address: Login("me", password)}).manifest("1")
    pair = base64.b64encode(f"me:{password}".encode()).decode()
    for form in (password, quote(password), pair, quote(pair), pair[4:-4], "token-that-was-given"):
        assert form not in f"{caught.value} {other.value}"


def test_a_blob_longer_than_announced_is_cut_off() -> None:
    descriptor = Descriptor(OCI + "layer.v1.tar", Digest.of(b""), 10)
    with hostile(200, {}, b"x" * (8 << 20)) as (address, _):
        repository = RemoteRepository(ImageReference.parse(f"{address}/x:1"), logins={})
        with pytest.raises(RemoteUnavailable, match="longer than the 10 bytes"):
            list(repository.blob(descriptor))
