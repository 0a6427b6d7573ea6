"""Who sent a request: whose word is taken, header by header, and what a client can make us believe (nothing)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from registry.http.settings import HttpSettings
from registry.peers.forwarded import HeaderKind, Proxies, Seen
from registry.peers.networks import node_address
from tests.support.registry.serving import serving

PROXY = "10.0.0.1"
INNER = "10.0.0.2"
STRANGER = "203.0.113.9"
CLIENT = "198.51.100.7"
DIRECT = Seen(PROXY, "http", "inside:5000")

Headers = list[tuple[str, str]]


def read(kind: HeaderKind, headers: Headers, direct: Seen = DIRECT) -> Seen:
    return Proxies(["10.0.0.0/8", "fd00::/8"], kind).read(direct, CIMultiDict(headers))


def x_for(*values: str) -> Headers:
    return [("X-Forwarded-For", value) for value in values]


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        ([], PROXY),
        (x_for(CLIENT), CLIENT),
        (x_for(f"{CLIENT}:1234"), CLIENT),
        (x_for("2001:db8::7"), "2001:db8::7"),
        (x_for("[2001:db8::7]:443"), "2001:db8::7"),
        (x_for("::ffff:198.51.100.7"), CLIENT),
        # what the client wrote itself comes before what the proxy added
        (x_for(f"{STRANGER}, {CLIENT}"), CLIENT),
        (x_for(STRANGER, CLIENT), CLIENT),
        (x_for(f"10.9.9.9, {CLIENT}"), CLIENT),
        # through two proxies of ours
        (x_for(f"{STRANGER}, {CLIENT}, {INNER}"), CLIENT),
        (x_for(f"{CLIENT},fd00::1,{INNER}"), CLIENT),
        # everybody is trusted: the first
        (x_for(f"10.1.1.1, {INNER}"), "10.1.1.1"),
        # what is no address ends what is believed
        (x_for("garbage"), PROXY),
        (x_for("unknown"), PROXY),
        (x_for(f"{CLIENT}, _hidden"), PROXY),
        (x_for(f"{CLIENT}, garbage, {INNER}"), INNER),
        (x_for(f"{CLIENT},"), PROXY),
        (x_for(""), PROXY),
        (x_for("198.51.100.007"), PROXY),
        (x_for("198.51.100.7:99999999"), PROXY),
        (x_for("fe80::1%eth0"), PROXY),
        (x_for("١٩٨.51.100.7"), PROXY),
        ([("Forwarded", f"for={STRANGER}")], PROXY),
        ([*x_for(CLIENT), ("Forwarded", f"for={STRANGER}")], CLIENT),
        ([("X-Real-IP", STRANGER), *x_for(CLIENT)], CLIENT),
    ],
)
def test_client_by_x_forwarded_for(headers: Headers, client: str) -> None:
    assert read("x-forwarded", headers).client == client


@pytest.mark.parametrize(
    ("headers", "scheme", "host"),
    [
        ([], "http", "inside:5000"),
        ([("X-Forwarded-Proto", "https")], "https", "inside:5000"),
        ([("X-Forwarded-Proto", "HTTPS")], "https", "inside:5000"),
        ([("X-Forwarded-Proto", "gopher, https")], "https", "inside:5000"),
        ([("X-Forwarded-Proto", "https, gopher")], "http", "inside:5000"),
        ([("X-Forwarded-Proto", "javascript:alert(1)//")], "http", "inside:5000"),
        ([("X-Forwarded-Host", "registry.example.org")], "http", "registry.example.org"),
        ([("X-Forwarded-Host", "evil.example, registry.example.org:8443")], "http", "registry.example.org:8443"),
        ([("X-Forwarded-Host", "[2001:db8::1]:443")], "http", "[2001:db8::1]:443"),
        ([("X-Forwarded-Host", "a/b")], "http", "inside:5000"),
        ([("X-Forwarded-Host", "user@host")], "http", "inside:5000"),
        ([("X-Forwarded-Host", "host:port")], "http", "inside:5000"),
        ([("X-Forwarded-Host", " \thost\t")], "http", "host"),
        ([("X-Forwarded-Host", "host\n")], "http", "inside:5000"),
        ([("X-Forwarded-Host", "\xa0host")], "http", "inside:5000"),
        ([("X-Forwarded-Host", "a" * 300)], "http", "inside:5000"),
        ([("Forwarded", "proto=https;host=evil.example")], "http", "inside:5000"),
    ],
)
def test_scheme_and_host_by_x_forwarded(headers: Headers, scheme: str, host: str) -> None:
    seen = read("x-forwarded", [*x_for(f"{STRANGER}, {CLIENT}"), *headers])
    assert (seen.client, seen.scheme, seen.host) == (CLIENT, scheme, host)


@pytest.mark.parametrize(
    ("lines", "seen"),
    [
        ([f"for={CLIENT}"], (CLIENT, "http", "inside:5000")),
        ([f"For={CLIENT};Proto=https;Host=reg.example"], (CLIENT, "https", "reg.example")),
        ([f'for="{CLIENT}:80" ; proto=https'], (CLIENT, "https", "inside:5000")),
        (['for="[2001:db8::7]:443";by=10.0.0.1'], ("2001:db8::7", "http", "inside:5000")),
        (["proto=https;host=reg.example"], (PROXY, "https", "reg.example")),
        ([f"for={CLIENT};host=reg.example, for={INNER};host=inside2"], (CLIENT, "http", "reg.example")),
        ([f"for={STRANGER};host=evil.example, for={CLIENT};proto=https"], (CLIENT, "https", "inside:5000")),
        ([f"for={STRANGER};proto=https", f"for={CLIENT}"], (CLIENT, "http", "inside:5000")),
        ([f"for={CLIENT}, , for={INNER} ,"], (CLIENT, "http", "inside:5000")),
        (['for=unknown;proto=https, for="_gazonk"'], (PROXY, "http", "inside:5000")),
        # a quote that the client opened ends in what the proxy wrote
        ([f'for={STRANGER};x=", for="[2001:db8::7]"'], (PROXY, "http", "inside:5000")),
        ([f'for={STRANGER};x=", for={CLIENT}'], (PROXY, "http", "inside:5000")),
        ([f'for={STRANGER};x="', f"for={CLIENT}"], (CLIENT, "http", "inside:5000")),
        ([f"for={STRANGER} garbage, for={CLIENT}"], (PROXY, "http", "inside:5000")),
        ([f"for={STRANGER};for={CLIENT}"], (PROXY, "http", "inside:5000")),
        ([f"for = {CLIENT}"], (PROXY, "http", "inside:5000")),
        ([""], (PROXY, "http", "inside:5000")),
    ],
)
def test_forwarded_of_rfc_7239(lines: list[str], seen: tuple[str, str, str]) -> None:
    found = read("forwarded", [("Forwarded", line) for line in lines] + x_for(STRANGER))
    assert (found.client, found.scheme, found.host) == seen


@pytest.mark.parametrize("kind", ["x-forwarded", "forwarded"])
@pytest.mark.parametrize("peer", [STRANGER, "", "/run/socket", "2001:db8::9"])
def test_nobody_else_is_believed(kind: HeaderKind, peer: str) -> None:
    headers = [
        *x_for(CLIENT),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
        ("Forwarded", f"for={CLIENT};proto=https;host=evil.example"),
    ]
    assert read(kind, headers, Seen(peer, "http", "host")) == Seen(peer, "http", "host")


def test_a_host_that_is_none_is_not_passed_on() -> None:
    assert read("x-forwarded", [], Seen(STRANGER, "http", 'x"><script>')).host == ""


@given(st.text(max_size=60), st.sampled_from(["x-forwarded", "forwarded"]))
def test_any_header_is_understood(text: str, kind: HeaderKind) -> None:
    headers = [("X-Forwarded-For", text), ("Forwarded", text), ("Forwarded", "for=" + text)]
    client = read(kind, headers).client
    assert client == PROXY or node_address(client) == client


async def test_the_log_has_the_client(tmp_path: Path) -> None:
    async def clients(settings: HttpSettings) -> list[str]:
        async with serving(tmp_path, settings) as site:
            for headers in ({}, {"X-Forwarded-For": f"{STRANGER}, {CLIENT}"}):
                async with site.request("GET", "/v2/", headers=headers) as answer:
                    assert answer.status == 200
        return [json.loads(line)["client"] for line in site.log.getvalue().splitlines()]

    assert await clients(HttpSettings()) == ["127.0.0.1", "127.0.0.1"]
    assert await clients(HttpSettings(trusted_proxies=("127.0.0.0/8",))) == ["127.0.0.1", CLIENT]
    assert await clients(HttpSettings(trusted_proxies=("127.0.0.2",))) == ["127.0.0.1", "127.0.0.1"]


async def test_locations_are_relative_whatever_is_forwarded(tmp_path: Path) -> None:
    headers = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
    async with serving(tmp_path, HttpSettings(trusted_proxies=("127.0.0.1",))) as site:
        async with site.request("POST", "/v2/a/blobs/uploads/", headers=headers) as answer:
            assert answer.status == 202
            assert answer.headers["Location"].startswith("/v2/a/blobs/uploads/")
