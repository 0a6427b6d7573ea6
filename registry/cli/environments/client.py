"""Requests of commands to the REST API of a server, and what it answers, which is checked before it is used."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from registry.cli.asking import NoAnswer, send
from registry.errors import RequestError

if TYPE_CHECKING:
    from yarl import URL

API = "api/v1"
LARGEST = 64 << 20
"""Bytes of an answer."""
PAGE = 100
"""Rows that a server gives at once."""
LONGEST_LINE = 1 << 20
"""Bytes of one line of a stream."""
SILENCE_SECONDS = 60.0
"""A server that says nothing for longer, not even that it is there, is gone."""


_SIGN_IN = re.compile(r"(?:sign|log) in\b")

Query = Mapping[str, str | Sequence[str]]


class ServerRefused(RequestError):
    """A server does not do what a command asks."""

    def __init__(self, origin: str, status: int, reason: str) -> None:
        super().__init__(f"{origin} says {status}: {reason}")
        self.status = status


@dataclass(frozen=True, slots=True)
class StreamedEvent:
    kind: str
    id: str
    data: str


@dataclass(frozen=True)
class Client:
    """Asks one server, as whoever has the token."""

    origin: URL
    token: str | None = None

    async def ask(self, method: str, path: str, document: object = None, query: Query | None = None) -> Fields:
        """The document in the answer. `path` is below the API, and its parts need no quoting.

        Raises ServerRefused, NoAnswer.
        """
        url = self._url(path, query)
        status, answer = await send(method, url, self._headers, json=document, largest=LARGEST)
        if status != 200:
            raise self._refusal(status, answer)
        return Fields(str(self.origin), answer)

    async def fetch(self, path: str) -> Fields:
        """A document that is at `path` below the server itself. Raises ServerRefused, NoAnswer."""
        url = self.origin.with_path(f"/{path}")
        status, answer = await send("GET", url, self._headers, largest=LARGEST)
        if status != 200:
            raise self._refusal(status, answer)
        return Fields(str(self.origin), answer)

    def read(self, text: str) -> Fields:
        """The document in an event of a stream. Raises ServerRefused."""
        from storage import strict_json
        from storage.errors import JsonInvalid

        try:
            found = strict_json.parse(text.encode())
        except JsonInvalid:
            found = None
        return Fields(str(self.origin), found if isinstance(found, dict) else {})

    async def ask_list(self, path: str, query: Query, most: int | None = None) -> tuple[list[Fields], int]:
        """All rows of a list, or the first `most`, and how many there are. Raises ServerRefused, NoAnswer."""
        rows: list[Fields] = []
        for page in range(1, 1_000_000):
            size = PAGE if most is None else min(PAGE, most)
            answer = await self.ask("GET", path, query={**query, "page": str(page), "size": str(size)})
            found = answer.rows("data")
            rows += found
            count = answer.number("count")
            if not found or len(rows) >= count or (most is not None and len(rows) >= most):
                return rows[:most], count
        raise AssertionError("no list is that long")

    async def stream(self, path: str, query: Query, after: str = "") -> AsyncIterator[StreamedEvent]:
        """The events of a stream, from the one after the id `after` on. Raises ServerRefused, NoAnswer."""
        import aiohttp

        from storage.network.this_machine import is_this_machine

        headers = {**self._headers, "Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=SILENCE_SECONDS)
        url = self._url(path, query)
        try:
            async with (
                aiohttp.ClientSession(
                    timeout=timeout, trust_env=not is_this_machine(url.host or ""), read_bufsize=LONGEST_LINE
                ) as session,
                session.get(url, headers=headers, allow_redirects=False) as answer,
            ):
                if answer.status == 204:
                    yield StreamedEvent("end", "", "")
                    return
                if answer.status != 200 or answer.content_type != "text/event-stream":
                    raise self._refusal(answer.status, await _read_refusal(answer))
                async for event in _read_events(answer):
                    yield event
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise NoAnswer(f"{self.origin} does not answer: {error or type(error).__name__}") from None

    def _url(self, path: str, query: Query | None) -> URL:
        url = self.origin
        for part in f"{API}/{path}".strip("/").split("/"):
            url = url / part
        return url.with_path(f"{url.path}/").with_query(query or {})

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def _refusal(self, status: int, answer: Mapping[str, Any]) -> ServerRefused:
        said = answer.get("message")
        reason = said if isinstance(said, str) and said else "it is no condery, or redirects"
        if status == 401 or (status == 403 and self.token is None):
            ask = f"sign in with `condery login {self.origin.authority}`, or set CONDERY_TOKEN"
            # a server says how a browser or docker would
            reason = "; ".join([each for each in reason.split("; ") if not _SIGN_IN.match(each)] + [ask])
        return ServerRefused(str(self.origin), status, reason)


async def _read_refusal(answer: Any) -> Mapping[str, Any]:
    """`answer` is aiohttp's, which is imported when it is needed."""
    from storage import strict_json
    from storage.errors import JsonInvalid

    try:
        found = strict_json.parse(await answer.content.read(LONGEST_LINE))
    except JsonInvalid:
        return {}
    return found if isinstance(found, dict) else {}


async def _read_events(answer: Any) -> AsyncIterator[StreamedEvent]:
    kind = position = data = ""
    async for line in answer.content:
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        name, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if not text:
            if kind:
                yield StreamedEvent(kind, position, data)
            kind = data = ""
        elif name == "event":
            kind = value
        elif name == "id":
            position = value
        elif name == "data":
            data = value


@dataclass(frozen=True)
class Fields:
    """An object that a server answered, of which nothing is believed. What is no such field raises ServerRefused."""

    origin: str
    document: Mapping[str, Any]

    def inner(self, name: str) -> Fields:
        found = self.document.get(name)
        return Fields(self.origin, found) if isinstance(found, dict) else self._wrong(name)

    def rows(self, name: str) -> list[Fields]:
        found = self.document.get(name)
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            self._wrong(name)
        return [Fields(self.origin, each) for each in found]

    def text(self, name: str) -> str:
        found = self.document.get(name)
        return found if isinstance(found, str) else self._wrong(name)

    def text_or_none(self, name: str) -> str | None:
        return None if self.document.get(name) is None else self.text(name)

    def number(self, name: str) -> int:
        found = self.document.get(name)
        return found if isinstance(found, int) and not isinstance(found, bool) else self._wrong(name)

    def time(self, name: str) -> float:
        """UNIX seconds of a time that is written as UTC without a zone."""
        try:
            return datetime.fromisoformat(self.text(name)).replace(tzinfo=UTC).timestamp()
        except ValueError:
            self._wrong(name)

    def time_or_none(self, name: str) -> float | None:
        return None if self.document.get(name) is None else self.time(name)

    def _wrong(self, name: str) -> NoReturn:
        raise ServerRefused(self.origin, 200, f"its answer has no {name} as condery's have; it is another program")
