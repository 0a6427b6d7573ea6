"""What a mirror may do by rule: names, addresses, challenges, and whom a password is told. Nothing here is served."""

from __future__ import annotations

import socket

import pytest
from aiohttp import ThreadedResolver
from pydantic import ValidationError
from yarl import URL

from builder.network.addresses import AddressGuard, InternalAddress, is_public
from builder.network.connector import GuardedResolver
from registry.answers import answer_of
from registry.http.references import parse_path
from registry.mirror import errors
from registry.mirror.errors import MirrorError, NotMirrored, UpstreamFailed
from registry.mirror.names import Source, is_mirror, source_of
from registry.mirror.settings import MirrorSettings
from registry.mirror.tokens import Challenge, check_login, read_challenge, read_token, token_url
from tests.support.servers.resolver import Answers

MIRRORED = ("docker.io", "ghcr.io", "localhost:5000", "127.0.0.1:80")


@pytest.mark.parametrize(
    ("name", "source", "scope"),
    [
        ("mirror/docker.io/debian", Source("docker.io", "library/debian"), "mirror/docker.io/library/debian"),
        ("mirror/docker.io/library/debian", Source("docker.io", "library/debian"), "mirror/docker.io/library/debian"),
        (
            "mirror/registry-1.docker.io/debian",
            Source("docker.io", "library/debian"),
            "mirror/docker.io/library/debian",
        ),
        ("mirror/index.docker.io/a/b", Source("docker.io", "a/b"), "mirror/docker.io/a/b"),
        ("mirror/ghcr.io/image", Source("ghcr.io", "image"), "mirror/ghcr.io/image"),
        ("mirror/localhost_5000/a/b/c", Source("localhost:5000", "a/b/c"), "mirror/localhost_5000/a/b/c"),
        ("mirror/127.0.0.1_80/a", Source("127.0.0.1:80", "a"), "mirror/127.0.0.1_80/a"),
    ],
)
def test_names(name: str, source: Source, scope: str) -> None:
    assert source_of(name, MIRRORED) == source
    assert source.scope == scope
    assert source_of(scope, MIRRORED) == source
    assert parse_path(f"/v2/{name}/tags/list").repository == name, "a client could not write it"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mirror", "nothing is not mirrored here; 127.0.0.1:80, docker.io, ghcr.io, localhost:5000 are"),
        ("mirror/ghcr.io", "mirror/ghcr.io names no repository: write mirror/ghcr.io/NAME"),
        ("mirror/quay.io/a", "quay.io is not mirrored here"),
        ("mirror/localhost/a", "localhost is not mirrored here"),
        ("mirror/localhost_5001/a", "localhost:5001 is not mirrored here"),
        ("mirror/ghcr.io_443/a", "ghcr.io:443 is not mirrored here"),
        ("mirror/docker.io/" + "a" * 238, "is longer than the 255 characters"),
    ],
)
def test_names_of_nothing(name: str, message: str) -> None:
    with pytest.raises(NotMirrored, match=message):
        source_of(name, MIRRORED)


def test_without_mirrors_that_is_said() -> None:
    with pytest.raises(NotMirrored, match="no other registry is mirrored here"):
        source_of("mirror/docker.io/debian", ())


@pytest.mark.parametrize(
    ("name", "reserved"), [("mirror", True), ("mirror/x", True), ("mirrors/x", False), ("a/mirror", False)]
)
def test_the_names_that_are_reserved(name: str, reserved: bool) -> None:
    assert is_mirror(name) is reserved


def test_docker_hub_is_reached_by_the_name_of_its_api() -> None:
    assert source_of("mirror/docker.io/debian", MIRRORED).api == "registry-1.docker.io"


def test_settings_are_checked() -> None:
    settings = MirrorSettings(
        mirrors=("Index.docker.io", "docker.io", " ghcr.io "), mirror_internal_hosts=("10.0.0.1:80",)
    )
    assert settings.mirrors == ("docker.io", "ghcr.io")
    for wrong in ("https://ghcr.io", "ghcr.io/", "a b", "", "x:y", "under_score", "*"):
        with pytest.raises(ValidationError):
            MirrorSettings(mirrors=(wrong,))


PUBLIC = [
    "8.8.8.8",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
]
INTERNAL = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "100.127.255.255", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "240.0.0.1", "255.255.255.255", "192.88.99.1",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "fe80::1",
    "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:a9fe:a9fe::", "100::1", "3fff::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", [*INTERNAL, "", "localhost", "2130706433", "0x7f.1", "127.1"])
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


def test_internal_hosts_are_admitted_at_their_port_only() -> None:
    guard = AddressGuard(["registry.internal:5000", "minio.internal"])
    guard.check("registry.internal", 5000, ["10.0.0.1"])
    guard.check("MinIO.internal.", 443, ["10.0.0.1"])
    guard.check("minio.internal", 80, ["fd00::1"])
    for host, port in (("registry.internal", 6379), ("minio.internal", 22), ("other.internal", 443)):
        with pytest.raises(InternalAddress):
            guard.check(host, port, ["10.0.0.1"])
    guard.check("anywhere.example", 1234, ["8.8.8.8"])
    with pytest.raises(InternalAddress):
        guard.check("both.example", 443, ["8.8.8.8", "127.0.0.1"])
    with pytest.raises(InternalAddress):
        guard.check_host("::ffff:127.0.0.1", 443)
    guard.check_host("a-name-is-for-the-resolver.example", 443)


async def test_each_look_at_a_name_is_checked_and_is_the_only_one() -> None:
    answers = Answers("8.8.8.8", "127.0.0.1", "8.8.4.4")
    resolver = GuardedResolver(AddressGuard([]), answers)
    assert [each["host"] for each in await resolver.resolve("rebinding.example", 443)] == ["8.8.8.8"]
    assert answers.addresses == ["127.0.0.1", "8.8.4.4"]
    with pytest.raises(InternalAddress):
        await resolver.resolve("rebinding.example", 443)


@pytest.mark.parametrize("name", ["localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1"])
async def test_what_the_system_takes_for_this_machine_is_refused(name: str) -> None:
    resolver = GuardedResolver(AddressGuard([]), ThreadedResolver())
    with pytest.raises(InternalAddress):
        await resolver.resolve(name, 80, socket.AF_UNSPEC)


HUB = Source("docker.io", "library/debian")


def test_challenges() -> None:
    bearer = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/debian:pull"'
    found = Challenge("bearer", "https://auth.docker.io/token", "registry.docker.io", "repository:library/debian:pull")
    assert read_challenge([bearer]) == found
    assert read_challenge(['Basic realm="x"', bearer.replace("Bearer", "bearer")]) == found
    assert read_challenge(['Basic realm="x"']) == Challenge("basic")
    assert read_challenge(["Negotiate", ""]) is None
    assert read_challenge([]) is None
    url = token_url(HUB, found)
    assert url.with_query(None) == URL("https://auth.docker.io/token")
    assert dict(url.query) == {"service": "registry.docker.io", "scope": "repository:library/debian:pull"}


def test_a_token_is_asked_for_one_repository_and_to_pull_where_no_scope_is_told() -> None:
    assert token_url(HUB, Challenge("bearer", "https://a/t")).query["scope"] == "repository:library/debian:pull"


@pytest.mark.parametrize(
    ("registry", "realm", "told"),
    [
        ("docker.io", "https://auth.docker.io/token", True),
        ("ghcr.io", "https://ghcr.io/token", True),
        ("registry.gitlab.com", "https://gitlab.com/jwt/auth", True),
        ("localhost:5000", "http://localhost:5001/token", True),
        ("docker.io", "https://evil.example/token", False),
        ("docker.io", "https://docker.io.evil.example/token", False),
        ("10.0.0.1:5000", "http://9.0.0.1/token", False),
    ],
)
def test_whom_a_password_is_told(registry: str, realm: str, told: bool) -> None:
    source = Source(registry, "a")
    if told:
        check_login(source, URL(realm))
    else:
        with pytest.raises(UpstreamFailed, match="asks to send its login to"):
            check_login(source, URL(realm))


@pytest.mark.parametrize(
    "document", [None, [], "token", {}, {"token": ""}, {"token": 1}, {"token": "a\r\nb"}, {"token": "ü"}]
)
def test_what_is_no_token(document: object) -> None:
    with pytest.raises(UpstreamFailed, match="gave no token"):
        read_token(HUB, document)


def test_a_grant_is_given_up_before_its_end_and_shows_nothing() -> None:
    grant = read_token(HUB, {"access_token": "secret", "expires_in": 300})
    assert grant.header == "Bearer secret"
    assert grant.seconds == 290
    assert read_token(HUB, {"token": "secret", "expires_in": 4}).seconds == 2
    assert read_token(HUB, {"token": "secret", "expires_in": -1}).seconds == 50
    for ever in (10**400, 1e308, float("inf")):
        assert read_token(HUB, {"token": "secret", "expires_in": ever}).seconds <= 86400
    assert "secret" not in repr(grant)


def test_every_error_is_one_that_clients_show() -> None:
    found = [
        each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, MirrorError | NotMirrored)
    ]
    assert len(found) > 8
    for each in found:
        answer = answer_of(each)
        assert answer is not None
        assert answer.status in (404, 429), each
