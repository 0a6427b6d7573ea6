"""Webhooks of real servers: builds are told of, and nothing that was answered is lost when a server is killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from storage.digest import Digest
from storage.oci import OCI_INDEX
from tests.support.server import Server, StartServer
from tests.support.servers.receiver import Receiver, receiving

SECRET = b"a secret of sixteen characters and more"
ROOT = "conda-store-dynamic"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving(SECRET) as opened:
        yield opened


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def flags(tmp_path: Path, receiver: Receiver) -> list[str]:
    (tmp_path / "secret").write_bytes(SECRET)
    webhook = ["--webhooks", receiver.url, "--webhook-secret-file", str(tmp_path / "secret")]
    return [*webhook, "--base", "scratch", "--workers", "1"]


async def status(client: aiohttp.ClientSession, server: Server, method: str, path: str, data: bytes = b"") -> int:
    headers = {"Accept": OCI_INDEX}
    async with client.request(method, f"{server.url}/v2/{path}", data=data, headers=headers) as answer:
        await answer.read()
        return answer.status


async def of(receiver: Receiver, action: str, count: int) -> Sequence[dict[str, Any]]:
    """The first events with this action."""
    while len(found := [event for event in receiver.taken if event["action"] == action]) < count:
        await receiver.wait(len(receiver.taken) + 1)
    return found[:count]


async def test_builds(
    start_server: StartServer, sample_channel: Path, flags: list[str], receiver: Receiver, client: aiohttp.ClientSession
) -> None:
    settings = ["--channels", sample_channel.as_uri(), "--public-url", "https://reg.example"]
    # a server with a public address lets nobody in otherwise
    settings += ["--anonymous-bindings", f"{ROOT}/*=editor"]
    server = await asyncio.to_thread(start_server, *flags, *settings)
    assert await status(client, server, "GET", f"{ROOT}/tzdata/manifests/latest") == 200
    assert await status(client, server, "GET", f"{ROOT}/no-such-package/manifests/latest") == 404
    made, failed = await of(receiver, "build", 2)
    [pull] = await of(receiver, "pull", 1)
    target = made["target"]
    assert target == {
        "repository": f"{ROOT}/tzdata",
        "mediaType": OCI_INDEX,
        "digest": pull["target"]["digest"],
        "size": pull["target"]["size"],
        "length": pull["target"]["size"],
        "url": f"https://reg.example/v2/{ROOT}/tzdata/manifests/{pull['target']['digest']}",
        "tag": target["tag"],
    }
    assert await status(client, server, "HEAD", f"{ROOT}/tzdata/manifests/{target['tag']}") == 200
    assert (made["request"], made["actor"]) == ({"id": "", "method": "", "useragent": ""}, {})
    assert made["build"].pop("seconds") > 0
    assert made["build"] == {"id": made["build"]["id"], "status": "completed", "kind": "image"}
    assert failed["target"] == {"repository": f"{ROOT}/no-such-package"}
    build = failed["build"]
    assert (build["status"], build["error"]) == ("failed", "UnknownPackage")
    assert "no package no-such-package" in build["message"]
    assert {made["source"]["addr"].rpartition(":")[2], pull["actor"]["name"]} == {"0", "anonymous"}


async def test_what_was_answered_is_told_though_the_server_was_killed(
    start_server: StartServer, flags: list[str], receiver: Receiver, client: aiohttp.ClientSession
) -> None:
    receiver.statuses.extend([503] * 10_000)
    server = await asyncio.to_thread(start_server, *flags, "--processes", "2")
    contents = [b"%d" % number for number in range(20)]
    digests = [Digest.of(content) for content in contents]
    for content, digest in zip(contents, digests, strict=True):
        assert await status(client, server, "POST", f"a/blobs/uploads/?digest={digest}", content) == 201
    server.kill()
    receiver.statuses.clear()
    assert receiver.taken == []
    await asyncio.to_thread(server.start)
    await receiver.wait(len(digests))
    assert {event["target"]["digest"] for event in receiver.taken} == set(digests)
    assert await asyncio.to_thread(server.stop) == 0
    assert SECRET.decode() not in server.log.read_text()
    assert "hunter2" not in server.log.read_text()
