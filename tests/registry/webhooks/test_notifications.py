"""Webhooks: every kind of event from real requests, signed, in order, once more after every failure, and never lost."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from registry.http.settings import HttpSettings
from registry.logs.lines import configure
from registry.logs.settings import LogSettings
from registry.parts import PARTS
from registry.webhooks import notifier
from registry.webhooks.delivery import PATIENCE, Timing
from registry.webhooks.events import EventIds, printable, timestamp
from registry.webhooks.settings import WebhookSettings
from registry.webhooks.signing import SecretInvalid, read_secret, sign
from storage.database import tables
from storage.digest import Digest
from tests.support.registry.pushes import CONFIG, INDEX, LAYER, MANIFEST, Pusher
from tests.support.registry.serving import NUMPY, Site, serving
from tests.support.servers.receiver import Receiver, receiving

DOCUMENT = Path(__file__).parents[3] / "docs" / "notifications.md"
SECRET = b"0123456789abcdef0123456789abcdef"
QUICK = Timing(post=5, first_pause=0.01, longest_pause=0.02, lease=3)
EMPTY = Digest.of(b"{}")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving(SECRET) as opened:
        yield opened


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(SECRET + b"\n")
    return path


@contextlib.asynccontextmanager
async def telling(
    directory: Path, *webhooks: str, timing: Timing = QUICK, **settings: Any
) -> AsyncIterator[tuple[Site, Pusher]]:
    settings.setdefault("webhook_secret_file", directory / "secret")
    of_webhooks = {name: settings.pop(name) for name in WebhookSettings.model_fields.keys() & settings.keys()}
    told = WebhookSettings(webhooks=webhooks, **of_webhooks)
    async with serving(directory, HttpSettings(**settings), webhooks=told, timing=timing) as site:
        yield site, Pusher(site)


async def waiting(site: Site) -> list[dict[str, Any]]:
    """The documents of the outbox."""
    async with site.workshop.store.database.reading() as connection:
        rows = await connection.execute(select(tables.event.c.document).order_by(tables.event.c.id))
        return [json.loads(row.document) for row in rows]


async def emptied(site: Site) -> None:
    """Returns when every event was taken, and forgotten."""
    while await waiting(site):
        await asyncio.sleep(0.01)


def told(events: Sequence[dict[str, Any]]) -> list[tuple[str, str, str | None, str | None]]:
    return [
        (event["action"], event["target"]["repository"], event["target"].get("digest"), event["target"].get("tag"))
        for event in events
    ]


@pytest.mark.usefixtures("secret_file")
async def test_every_kind_of_event(tmp_path: Path, receiver: Receiver) -> None:
    async with telling(tmp_path, receiver.url, webhook_blob_pulls=True) as (site, push):
        body = await push.image("a", b"layer")
        layer, digest = Digest.of(b"layer"), Digest.of(body)
        await push.manifest("a", "v1", body)
        await push.manifest("a", f"{digest}?tag=v2&tag=v3", body)
        await push.request("POST", f"/v2/b/blobs/uploads/?mount={layer}&from=a")
        location = await push.open("b")
        await push.chunk(location, b"one", 0)
        await push.finish(location, Digest.of(b"onetwo"), b"two", 3)
        assert told(await receiver.wait(7)) == [
            ("push", "a", EMPTY, None),
            ("push", "a", layer, None),
            ("push", "a", digest, "v1"),
            ("push", "a", digest, "v2"),
            ("push", "a", digest, "v3"),
            ("mount", "b", layer, None),
            ("push", "b", Digest.of(b"onetwo"), None),
        ]
        await push.get_manifest("a", "v1")
        await push.get_manifest("a", digest)
        await push.read("a", layer)
        assert told(await receiver.wait(10))[7:] == [
            ("pull", "a", digest, "v1"),
            ("pull", "a", digest, None),
            ("pull", "a", layer, None),
        ]
        await push.request("DELETE", "/v2/a/manifests/v3")
        await push.request("DELETE", f"/v2/a/manifests/{digest}")
        await push.request("DELETE", f"/v2/a/blobs/{layer}")
        events = await receiver.wait(15)
        assert sorted(told(events)[11:13]) == [("delete", "a", None, "v1"), ("delete", "a", None, "v2")]
        assert told(events)[10] == ("delete", "a", None, "v3")
        assert told(events)[13:] == [("delete", "a", digest, None), ("delete", "a", layer, None)]
        assert events[5]["target"]["fromRepository"] == "a"
        await emptied(site)
    assert len({event["id"] for event in events}) == 15
    assert [event["id"] for event in events] == sorted(event["id"] for event in events)


@pytest.mark.usefixtures("secret_file")
async def test_an_event_is_complete(tmp_path: Path, receiver: Receiver) -> None:
    settings: dict[str, Any] = {"trusted_proxies": ("127.0.0.1",), "port": 5001}
    async with telling(tmp_path, f"{receiver.url} actions=push repositories=b", **settings) as (_, push):
        body = await push.image("b", b"layer")
        headers = {
            "Content-Type": MANIFEST,
            "User-Agent": "test/1",
            "X-Request-ID": "r-1",
            "X-Forwarded-For": "198.51.100.7",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "registry.example.org",
        }
        await push.request("PUT", "/v2/b/manifests/v1", data=body, headers=headers)
        event = (await receiver.wait(3))[2]
    digest = Digest.of(body)
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", event.pop("id"))
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", event.pop("timestamp"))
    assert event.pop("source").keys() == {"addr", "instanceID"}
    assert event == {
        "action": "push",
        "target": {
            "mediaType": MANIFEST,
            "digest": digest,
            "size": len(body),
            "length": len(body),
            "repository": "b",
            "url": f"https://registry.example.org/v2/b/manifests/{digest}",
            "tag": "v1",
            "references": [
                {"mediaType": CONFIG, "digest": EMPTY, "size": 2},
                {"mediaType": LAYER, "digest": Digest.of(b"layer"), "size": 5},
            ],
        },
        "request": {
            "id": "r-1",
            "addr": "198.51.100.7",
            "host": "registry.example.org",
            "method": "PUT",
            "useragent": "test/1",
        },
        "actor": {"name": "anonymous"},
    }


@pytest.mark.usefixtures("secret_file")
async def test_what_a_client_says_of_itself_cannot_break_a_push(tmp_path: Path, receiver: Receiver) -> None:
    async with telling(tmp_path, receiver.url, public_url="https://reg.example/") as (site, _):
        reader, writer = await asyncio.open_connection(*site.host_port)
        digest = Digest.of(b"x")
        request = f"POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: evil\xff/\r\nContent-Length: 1\r\n"
        writer.write(request.encode("latin-1") + b"User-Agent: \xff\xed\xa0\x80" + b"a" * 500 + b"\r\n\r\nx")
        assert (await reader.readline()).startswith(b"HTTP/1.1 201 ")
        writer.close()
        await writer.wait_closed()
        [event] = await receiver.wait(1)
    assert event["request"]["host"] == ""
    assert event["request"]["useragent"].startswith("?")
    assert len(event["request"]["useragent"]) == 256
    assert event["target"]["url"] == f"https://reg.example/v2/a/blobs/{digest}"


@pytest.mark.usefixtures("secret_file")
async def test_nobody_is_told_of_what_did_not_happen(tmp_path: Path, receiver: Receiver) -> None:
    async with telling(tmp_path, receiver.url) as (site, push):
        body = await push.image("a", b"layer")
        await receiver.wait(2)
        assert (await push.manifest("other", "v1", body)).status == 404
        assert (await push.whole("a", b"other", Digest.of(b"layer"))).status == 400
        assert (await push.request("DELETE", "/v2/a/manifests/v1")).status == 404
        assert (await push.request("DELETE", f"/v2/a/blobs/{Digest.of(b'none')}")).status == 404
        assert (await push.get_manifest("a", "v1")).status == 404
        assert (await push.request("HEAD", f"/v2/a/blobs/{EMPTY}")).status == 200
        # neither of another repository's blob that is not there
        assert (await push.request("POST", f"/v2/b/blobs/uploads/?mount={EMPTY}&from=none")).status == 202
        await push.manifest("a", "v1", body)
        assert (await push.request("HEAD", "/v2/a/manifests/v1")).status == 200
        headers = {"If-None-Match": f'"{Digest.of(body)}"'}
        assert (await push.request("GET", "/v2/a/manifests/v1", headers=headers)).status == 304
        assert (await push.read("a", EMPTY)) == b"{}"
        await push.get_manifest("a", "v1")
        assert told(await receiver.wait(4))[2:] == [
            ("push", "a", Digest.of(body), "v1"),
            ("pull", "a", Digest.of(body), "v1"),
        ]
        await emptied(site)
        assert len(receiver.taken) == 4


@pytest.mark.usefixtures("secret_file")
async def test_an_event_that_cannot_be_recorded_undoes_its_change(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_arguments: object) -> None:
        raise ZeroDivisionError

    async with telling(tmp_path, receiver.url) as (_, push):
        body = await push.image("a", b"layer")
        with monkeypatch.context() as patched:
            patched.setattr(notifier, "insert_events", fail)
            assert (await push.manifest("a", "v1", body)).status == 500
            assert (await push.whole("a", b"more", Digest.of(b"more"))).status == 500
            assert (await push.request("DELETE", f"/v2/a/blobs/{EMPTY}")).status == 500
        assert (await push.get_manifest("a", "v1")).status == 404
        assert (await push.site_get("a", Digest.of(b"more"))).status == 404
        assert (await push.read("a", EMPTY)) == b"{}"


@pytest.mark.usefixtures("secret_file")
async def test_rules_say_who_is_told_of_what(tmp_path: Path, receiver: Receiver) -> None:
    async with receiving(SECRET) as other:
        webhooks = (
            f"{receiver.url} actions=delete,pull",
            f"{other.url} repositories=team/*",
            f"{other.url} actions=mount",
        )
        async with telling(tmp_path, *webhooks) as (_, push):
            await push.whole("a", b"x", Digest.of(b"x"))
            await push.whole("team/a", b"x", Digest.of(b"x"))
            await push.request("POST", f"/v2/b/blobs/uploads/?mount={Digest.of(b'x')}&from=a")
            await push.request("DELETE", f"/v2/a/blobs/{Digest.of(b'x')}")
            await push.request("DELETE", f"/v2/team/a/blobs/{Digest.of(b'x')}")
            await receiver.wait(2)
            await other.wait(3)
    assert [event[:2] for event in told(receiver.taken)] == [("delete", "a"), ("delete", "team/a")]
    assert [event[:2] for event in told(other.taken)] == [("push", "team/a"), ("mount", "b"), ("delete", "team/a")]


@pytest.mark.usefixtures("secret_file")
@pytest.mark.parametrize("status", [500, 503, 429, 408])
async def test_what_was_not_taken_is_sent_again_in_order(tmp_path: Path, receiver: Receiver, status: int) -> None:
    receiver.statuses.extend([status] * (PATIENCE + 3))
    contents = [str(number).encode() for number in range(6)]
    async with telling(tmp_path, receiver.url) as (site, push):
        for content in contents:
            await push.whole("a", content, Digest.of(content))
        events = await receiver.wait(len(contents))
        await emptied(site)
    assert [event["target"]["digest"] for event in events] == [Digest.of(content) for content in contents]
    assert len(receiver.taken) == len(contents)
    assert {post[0]["id"] for post in receiver.posts[: PATIENCE + 3]} == {events[0]["id"]}


@pytest.mark.usefixtures("secret_file")
@pytest.mark.parametrize("status", [301, 307, 400, 404])
async def test_cve_2026_2376_redirects_are_not_followed_and_refusals_are_tried_again(
    tmp_path: Path, receiver: Receiver, status: int
) -> None:
    receiver.statuses.append(status)
    async with telling(tmp_path, receiver.url) as (_, push):
        await push.whole("a", b"x", Digest.of(b"x"))
        await receiver.wait(1)
    assert len(receiver.posts) == 2


@pytest.mark.usefixtures("secret_file")
async def test_an_event_that_is_always_refused_holds_up_the_others_for_a_while_only(
    tmp_path: Path, receiver: Receiver
) -> None:
    receiver.refused = frozenset({Digest.of(b"1")})
    timing = Timing(post=5, first_pause=0.05, longest_pause=60)
    async with telling(tmp_path, receiver.url, timing=timing) as (site, push):
        for content in (b"0", b"1", b"2", b"3"):
            await push.whole("a", content, Digest.of(content))
        events = await receiver.wait(3)
        assert [event["target"]["digest"] for event in events] == [Digest.of(content) for content in (b"0", b"2", b"3")]
        while len(left := await waiting(site)) > 1:
            await asyncio.sleep(0.01)
        assert left[0]["target"]["digest"] == Digest.of(b"1")
        receiver.refused = frozenset()
        assert (await receiver.wait(4))[3]["target"]["digest"] == Digest.of(b"1")


@pytest.mark.usefixtures("secret_file")
async def test_a_dead_and_a_hanging_webhook_hold_up_no_other(tmp_path: Path, receiver: Receiver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}/hook/hunter2"
    async with receiving(SECRET) as hanging:
        hanging.hangs = True
        timing = Timing(post=0.2, first_pause=0.01, longest_pause=0.02)
        async with telling(tmp_path, dead, hanging.url, receiver.url, timing=timing) as (site, push):
            for number in range(20):
                await push.whole("a", b"%d" % number, Digest.of(b"%d" % number))
            await receiver.wait(20)
            await hanging.wait_for_posts(3)
            assert len({event["id"] for event in await waiting(site)}) == 20
            hanging.hangs = False
            await hanging.wait(20)
    assert told(hanging.taken) == told(receiver.taken)


@pytest.mark.usefixtures("secret_file")
async def test_what_waits_outlives_the_server(tmp_path: Path, receiver: Receiver) -> None:
    receiver.statuses.extend([500] * 1000)
    async with telling(tmp_path, receiver.url) as (_, push):
        body = await push.image("a", b"layer")
        await push.manifest("a", "v1", body)
        # pulls that were only noted are written down at the end
        await push.get_manifest("a", "v1")
    receiver.statuses.clear()
    async with telling(tmp_path, receiver.url):
        events = await receiver.wait(4)
    assert [event["action"] for event in events] == ["push", "push", "push", "pull"]


@pytest.mark.usefixtures("secret_file")
async def test_one_of_several_servers_delivers_and_another_takes_over(tmp_path: Path, receiver: Receiver) -> None:
    async with contextlib.AsyncExitStack() as second:
        async with telling(tmp_path, receiver.url) as (first, first_push):
            _, second_push = await second.enter_async_context(telling(tmp_path, receiver.url))
            for number in range(10):
                await first_push.whole("a", b"f%d" % number, Digest.of(b"f%d" % number))
                await second_push.whole("a", b"s%d" % number, Digest.of(b"s%d" % number))
            await receiver.wait(20)
            await emptied(first)
        await second_push.whole("a", b"x", Digest.of(b"x"))
        await receiver.wait(21)
    assert len({event["id"] for event in receiver.taken}) == len(receiver.taken) == 21
    assert len({event["source"]["instanceID"] for event in receiver.taken}) == 2


@pytest.mark.usefixtures("secret_file")
async def test_what_is_too_old_is_given_up(tmp_path: Path, receiver: Receiver) -> None:
    receiver.statuses.extend([500] * 3)
    timing = Timing(post=5, first_pause=0.01, longest_pause=0.02, give_up=0)
    async with telling(tmp_path, receiver.url, timing=timing) as (site, push):
        await push.whole("a", b"1", Digest.of(b"1"))
        await emptied(site)
        receiver.statuses.clear()
        await push.whole("a", b"2", Digest.of(b"2"))
        [event] = await receiver.wait(1)
    assert event["target"]["digest"] == Digest.of(b"2")


@pytest.mark.usefixtures("secret_file")
async def test_pulls_beyond_what_can_be_kept_are_counted(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "MOST_NOTED", 3)
    monkeypatch.setattr(notifier, "FLUSH_SECONDS", 3600)
    async with telling(tmp_path, f"{receiver.url} actions=pull") as (site, push):
        await push.manifest("a", "v1", await push.image("a", b"layer"))
        for _ in range(5):
            await push.get_manifest("a", "v1")
        parts = site.app[PARTS]
        assert parts.notifier
        assert parts.notifier.dropped == 2
        await parts.notifier.flush()
        await receiver.wait(3)
        monkeypatch.setattr(notifier, "MOST_WAITING", 0)
        await push.get_manifest("a", "v1")
        await parts.notifier.flush()
        assert (parts.notifier.dropped, await waiting(site)) == (1, [])


async def test_images_that_are_still_built_are_pulled_when_they_are_there(tmp_path: Path) -> None:
    async with receiving() as receiver:
        settings: dict[str, Any] = {"webhook_secret_file": None, "answer_within": 0.05, "trickle_interval": 0.01}
        async with telling(tmp_path, receiver.url, **settings) as (site, push):
            pulling = asyncio.ensure_future(push.request("GET", f"/v2/{NUMPY}/manifests/latest"))
            await site.started(NUMPY)
            await asyncio.sleep(0.1)
            image = await site.workshop.finish(NUMPY)
            assert (await pulling).status == 200
            await push.request("GET", f"/v2/{NUMPY}/manifests/latest", headers={"Accept": INDEX})
            first, second = await receiver.wait(2)
    assert told([first]) == told([second]) == [("pull", NUMPY, image.variants[0].digest, "latest")]
    assert first["target"]["size"] == image.variants[0].size


async def test_without_webhooks_there_is_no_notifier(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        push = Pusher(site)
        await push.manifest("a", "v1", await push.image("a", b"layer"))
        await push.get_manifest("a", "v1")
        assert site.app[PARTS].notifier is None
        assert await waiting(site) == []


@pytest.mark.usefixtures("secret_file", "restored_logs")
async def test_no_secret_is_logged(tmp_path: Path, receiver: Receiver) -> None:
    stream = io.StringIO()
    configure(LogSettings(log_format="json", log_level="debug"), stream)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}/hook/hunter2?token=hunter2"
    receiver.statuses.extend([500, 404])
    receiver.hangs = True
    unknown = "https://no-such-host.invalid/hunter2"
    timing = Timing(post=0.2, first_pause=0.01, longest_pause=0.02)
    async with telling(tmp_path, dead, receiver.url, unknown, timing=timing) as (_, push):
        await push.whole("a", b"x", Digest.of(b"x"))
        await receiver.wait_for_posts(3)
        receiver.hangs = False
        await receiver.wait(1)
        while unknown.split("/")[2] not in stream.getvalue():
            await asyncio.sleep(0.01)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    reasons = {line["reason"] for line in lines if line["event"] == "webhook failed"}
    assert {"no answer within 0.2 seconds"} < reasons
    assert {line["webhook"] for line in lines if "webhook" in line} > {
        receiver.url.removesuffix("hook/hunter2") + "***"
    }
    assert "hunter2" not in stream.getvalue()
    assert SECRET.decode() not in stream.getvalue()


async def test_the_documents_way_to_verify_works(tmp_path: Path, secret_file: Path) -> None:
    found = re.search(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found
    names: dict[str, Any] = {}
    exec(found[1], names)  # what the document tells people to write
    for altered, expected in ((b"", True), (b" ", False)):
        body = b'{"events":[]}'
        headers = sign(read_secret(secret_file), int(time.time()), body)
        assert names["verified"](SECRET, headers, body + altered) is expected
    old = sign(SECRET, int(time.time()) - 301, body)
    assert names["verified"](SECRET, old, body) is False


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "webhook_secret_file .*secret: No such file or directory"),
        (b"\n", "secret: it needs 16 characters; `openssl rand -hex 32` makes a good one"),
        (b"short\r\n", "it needs 16 characters"),
    ],
)
async def test_a_bad_secret_is_told_at_the_start(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    with pytest.raises(SecretInvalid, match=message):
        async with telling(tmp_path, "https://host"):
            pass


def test_ids_sort_by_their_time() -> None:
    ids = EventIds()
    made = [ids.new() for _ in range(10_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_pauses_double_up_to_hours() -> None:
    timing = Timing()
    assert [timing.pause(1) <= 1, 4 <= timing.pause(4) <= 8] == [True, True]
    assert 3600 <= timing.pause(10_000) <= 7200


def test_texts() -> None:
    assert timestamp(0) == "1970-01-01T00:00:00.000000Z"
    assert printable("a\udcff\ud800") == "a??"
