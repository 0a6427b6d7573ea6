"""Warm repodata: the solver process's gateways, the channels loaded in them, and how they stay fresh."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import structlog
from rattler import Channel, Gateway, SourceConfig, Subdir
from rattler.exceptions import GatewayError
from rattler.networking import Client

from builder.errors import ChannelRefused, ChannelUnavailable
from builder.network.addresses import split_endpoint
from builder.solve.indexes.folder import RepodataFolder, format_size
from builder.solve.indexes.records import KnownRecords

log = structlog.get_logger(__name__)

_INDEXES = ("repodata.json", "repodata.json.zst", "repodata_shards.msgpack.zst")
_REFRESHES = 8
"""Channels that are refreshed at a time."""
_SHARE = 0.8
"""Share of the time for indexes that reading one channel may take. The rest is for the copy on disk."""
_UNUSED_ROUNDS = 2
"""Refreshes after which an unused channel is dropped."""
_OFFLINE_GATEWAYS = 3
"""Gateways kept besides the one that reaches all channels."""
_SHOWN = 300
"""Characters of the index reader's message that are shown."""
_TOO_LARGE = "(os error 27)"
"""EFBIG: the process reached its limit on the size of a file."""

Notice = Callable[[tuple[str, ...]], None]
"""Called with the channels (URLs) that are being read for a request, and with an empty tuple when none is."""


@dataclass(frozen=True)
class RepodataLimits:
    """`seconds` for all indexes of a request, `size` in bytes of one expanded index, `channels` kept in memory.

    `connections` exceeds what hanging channels can hold at a time: whoever waited for one of those would hang with
    them.
    """

    seconds: float
    size: int
    channels: int
    connections: int


@dataclass
class _Known:
    """A loaded channel: its platforms, and the number of the refresh after which it was last used."""

    platforms: set[str] = field(default_factory=set)
    used: int = 0


@dataclass(frozen=True)
class _Warm:
    """A gateway and what is loaded in it: platforms by channel."""

    gateway: Gateway
    loaded: dict[str, set[str]] = field(default_factory=dict)

    def forget(self, url: str) -> None:
        self.loaded.pop(url, None)
        self.gateway.clear_repodata_cache(Channel(url))


class Repodata:
    """Keeps the repodata of channels in use in memory and on disk, in shards if a channel has them.

    - A loaded index stays as it is until a refresh, which asks each channel separately: one that hangs or fails neither
      delays nor harms the others. A `file://` channel is checked on every use instead.
    - A channel whose server cannot be reached is read from the copy on disk, however old, until a refresh reaches it:
      a build from known packages should not fail because nobody can tell whether an index is the newest.
      A channel that refuses (401, 403, 404) is not read from the copy. Requests without such a channel use another
      gateway, and so do not notice.
    - Only channels that loaded are kept and refreshed: names of channels that do not exist leave nothing behind.
    """

    def __init__(self, folder: RepodataFolder, client: Client, limits: RepodataLimits) -> None:
        self.records = KnownRecords()
        """The records of the loaded indexes."""
        self._folder = folder
        self._client = client
        self._limits = limits
        self._known: dict[str, _Known] = {}
        """In the order of their last use."""
        self._offline: frozenset[str] = frozenset()
        self._gateways: dict[frozenset[str], _Warm] = {}
        """By the channels in them that are read only from disk."""
        self._loading: dict[tuple[int, str, frozenset[str]], asyncio.Task[str | None]] = {}
        self._stamps: dict[str, tuple[object, ...]] = {}
        self._round = 0
        self._refreshing = asyncio.Lock()

    @property
    def client(self) -> Client:
        return self._client

    @property
    def channels(self) -> tuple[str, ...]:
        """The URLs of the channels that are kept."""
        return tuple(self._known)

    async def open_gateway(
        self,
        urls: Iterable[str],
        platforms: Iterable[str],
        notice: Notice = lambda _: None,
        *,
        one_by_one: bool = False,
    ) -> Gateway:
        """Return a gateway in which every channel is loaded for the platforms.

        Raises ChannelUnavailable, ChannelRefused. With `one_by_one`, channels are read one after the other, so that
        `notice` tells which one took the memory.
        """
        urls, wanted = tuple(urls), frozenset(platforms)
        self._forget_changed(urls)
        while True:
            offline = self._offline.intersection(urls)
            warm = self._find_warm(offline)
            missing = [url for url in urls if not wanted <= warm.loaded.get(url, set())]
            failures: dict[str, str] = {}
            for some in [[url] for url in missing] if one_by_one else [missing]:
                notice(tuple(some))
                failures |= await self._load_all(warm, some, wanted)
            notice(())
            if not failures:
                break
            await self._go_offline(failures, wanted, offline)
        self._note_use(urls, wanted)
        return warm.gateway

    def make_error(self, channels: Mapping[str, str], text: str) -> ChannelUnavailable | ChannelRefused:
        """Turn a gateway's error into one about the channel, from `channels` (URL to name), that it mentions."""
        url = next((url for url in channels if url in text), next(iter(channels)))
        return make_channel_error(channels[url], read_gateway_reason(text, url, self._limits.size))

    async def reload(self, urls: Iterable[str]) -> None:
        """Let the next use read the indexes of `urls` again."""
        for url in urls:
            self._forget(url)

    async def refresh(self) -> None:
        """Ask each channel that was used since the last two refreshes whether it has changed. Drop the others."""
        async with self._refreshing:
            for url, known in list(self._known.items()):
                if self._round - known.used >= _UNUSED_ROUNDS:
                    self._let_go(url)
            self._round += 1
            slots = asyncio.Semaphore(_REFRESHES)

            async def refresh(url: str) -> None:
                async with slots:
                    await self._refresh(url)

            await asyncio.gather(*map(refresh, list(self._known)))
            await asyncio.to_thread(self._folder.trim)

    async def _refresh(self, url: str) -> None:
        known = self._known.get(url)
        if known is None or url.startswith("file:"):
            return
        reason = await self._read(self._open(frozenset()), url, frozenset(known.platforms))
        if reason is None:
            # reading it now takes it from disk, after asking once whether it is still the newest
            self._offline -= {url}
            self._forget(url)
            reason = await self._load(self._find_warm(frozenset()), url, frozenset(known.platforms))
        if reason is None:
            return
        if _is_unreachable(reason):
            log.warning("channel cannot be reached; its last known packages are used", channel=url, reason=reason)
            self._offline |= {url}
            self._find_warm(frozenset()).forget(url)
            self.records.forget(url)
        else:
            log.warning("channel is not kept any more", channel=url, reason=reason)
            self._let_go(url)

    async def _go_offline(
        self, failures: Mapping[str, str], platforms: frozenset[str], offline: Collection[str]
    ) -> None:
        """Let each channel that failed be read from its copy. Raises if one has no copy, or may not be read from it.

        `offline` were already read from their copies when they failed. Others may have gone offline meanwhile.
        """
        for url, reason in failures.items():
            if url in offline or not _is_unreachable(reason):
                raise make_channel_error(url, reason)
            if await self._read(self._open(frozenset([url])), url, platforms) is not None:
                raise make_channel_error(url, reason)
        for url, reason in failures.items():
            log.warning("channel cannot be reached; its last known packages are used", channel=url, reason=reason)
            self._offline |= {url}
            self.records.forget(url)

    def _note_use(self, urls: Iterable[str], platforms: frozenset[str]) -> None:
        for url in urls:
            known = self._known.pop(url, None) or _Known()
            known.platforms |= platforms
            known.used = self._round
            self._known[url] = known
        for url in list(self._known)[: -self._limits.channels]:
            self._let_go(url)

    def _let_go(self, url: str) -> None:
        self._forget(url)
        self._known.pop(url, None)
        self._stamps.pop(url, None)
        self._offline -= {url}

    def _forget(self, url: str) -> None:
        self.records.forget(url)
        for offline, warm in list(self._gateways.items()):
            if url in offline:
                del self._gateways[offline]
            else:
                warm.forget(url)

    def _find_warm(self, offline: frozenset[str]) -> _Warm:
        """Return the gateway in which `offline` are read only from disk."""
        if offline not in self._gateways:
            for other in [each for each in self._gateways if each][:-_OFFLINE_GATEWAYS]:
                del self._gateways[other]
            self._gateways[offline] = _Warm(self._open(offline))
        return self._gateways[offline]

    def _open(self, offline: Collection[str]) -> Gateway:
        """Open a new gateway over the same disk cache. Channels in `offline` are read only from there."""
        return Gateway(
            cache_dir=self._folder.path,
            client=self._client,
            max_concurrent_requests=self._limits.connections,
            per_channel_config={url: SourceConfig(cache_action="force-cache-only") for url in offline},
        )

    async def _load_all(self, warm: _Warm, urls: Iterable[str], platforms: frozenset[str]) -> dict[str, str]:
        """Load channels. Returns the reasons for those that failed, by URL."""
        urls = list(urls)
        reasons = await asyncio.gather(*(self._load(warm, url, platforms) for url in urls))
        return {url: reason for url, reason in zip(urls, reasons, strict=True) if reason is not None}

    async def _load(self, warm: _Warm, url: str, platforms: frozenset[str]) -> str | None:
        """Read a channel into a gateway, once for all who want it now. Returns the reason if it failed.

        rattler stops reading for everybody when whoever started it is cancelled, so here no caller's cancellation
        reaches it.
        """
        key = (id(warm), url, platforms)

        async def load() -> str | None:
            reason = await self._read(warm.gateway, url, platforms)
            if reason is None:
                warm.loaded.setdefault(url, set()).update(platforms)
                await asyncio.to_thread(self._folder.trim)
            return reason

        if key not in self._loading:
            self._loading[key] = asyncio.create_task(load())
            self._loading[key].add_done_callback(lambda _: self._loading.pop(key))
        return await asyncio.shield(self._loading[key])

    async def _read(self, gateway: Gateway, url: str, platforms: frozenset[str]) -> str | None:
        seconds = self._limits.seconds * _SHARE
        try:
            async with asyncio.timeout(seconds):
                await gateway.names([Channel(url)], list(map(Subdir, sorted(platforms))), channel_relations="disabled")
        except TimeoutError:
            return f"unreachable: no complete answer within {seconds:g} s"
        except GatewayError as error:
            return read_gateway_reason(str(error), url, self._limits.size)
        return None

    def _forget_changed(self, urls: Iterable[str]) -> None:
        for url in urls:
            if url.startswith("file:"):
                stamp = _read_stamp(Path(unquote(urlsplit(url).path)))
                if self._stamps.setdefault(url, stamp) != stamp:
                    self._stamps[url] = stamp
                    self._forget(url)


def make_channel_error(channel: str, reason: str) -> ChannelUnavailable | ChannelRefused:
    """The error for a reason that `read_gateway_reason` gave; `channel` is its name."""
    return ChannelRefused(channel, reason) if "repodata_size" in reason else ChannelUnavailable(channel, reason)


def read_gateway_reason(text: str, channel: str, size: int) -> str:
    """Extract what is useful to a person from a gateway's error.

    Outside of `channel`, its URL, say only that it failed. A channel chooses what it refers to, so details from there
    are not for whoever asks for the channel. `size` is the limit of one index, in bytes.
    """
    found = re.search(r"for url \((\w+://[^)]*)\)", text)
    url = found[1] if found else ""
    host = urlsplit(url).netloc
    refusal = _describe_refusal(text, url)
    if url and _is_elsewhere(url, channel):
        log.warning("channel refers elsewhere", channel=channel, reason=text)
        return f"it refers to {host}, {refusal}" if refusal else f"unreachable: it refers to {host}, which failed"
    if refusal:
        return f"it is {refusal}"
    if "tunnel error" in text or "(599 " in text:
        return f"unreachable: no connection to {host} can be made"
    if match := re.search(r"HTTP status \w+ error \((\d+) [^)]*\) for url \(([^)]*)\)", text):
        status, url = match[1], match[2]
        if status in ("401", "403"):
            return f"it answers {status} for {url}; its credentials are missing or wrong"
        if status == "404":
            return f"{url} does not exist (404); is that the channel's name?"
        return f"unreachable: it answers {status} for {url}"
    if match := re.search(r"failed to open file `([^`]*)`: (.*?) \(os error", text):
        return f"{match[1]}: {match[2]}"
    lines = [line.removeprefix("Caused by: ") for line in text.splitlines() if line.strip()] or [text]
    if problem := _find_content_problem(text, lines[-1], size):
        return problem
    causes = [lines[0], lines[-1]] if len(lines) > 1 else lines
    return "unreachable: " + re.sub(r"`/[^`]*`", "a file", ": ".join(causes))


def _find_content_problem(text: str, last: str, size: int) -> str:
    """Describe what is wrong with a received index, given an error and its last line; empty if nothing was received."""
    if _TOO_LARGE in text:
        return f"its index is larger than the {format_size(size)} that the setting repodata_size allows"
    if found := re.search(r"failed to extract repodata records[^:]*: (.*)", text):
        return f"its index has a record that cannot be read: {found[1][:_SHOWN]}"
    if re.search(r"failed to parse repodata|not a valid package name", text):
        return f"its index is broken: {last[:_SHOWN]}"
    return ""


def _describe_refusal(text: str, url: str) -> str:
    """Describe why the guarding proxy refused an address, judged by its answers; empty if it did not."""
    plain = url.startswith("http:")
    if "proxy authorization required" in text or (plain and "(407 " in text):
        return "at an internal address that no setting names (channels, allowed_channels)"
    if plain and "(426 " in text:
        return "reached by http, although no requested channel is"
    return ""


def _is_elsewhere(url: str, channel: str) -> bool:
    """Whether an address is on another server than the channel's. rattler ignores the port of an `oci://` address."""
    if channel.startswith("oci:"):
        return urlsplit(url).hostname != urlsplit(channel).hostname
    return split_endpoint(url) != split_endpoint(channel)


def _is_unreachable(reason: str) -> bool:
    return reason.startswith("unreachable")


def _read_stamp(channel: Path) -> tuple[object, ...]:
    """Return a value that changes whenever an index of the channel in a directory is rewritten."""
    found: Mapping[str, int] = {
        str(path): path.stat().st_mtime_ns for name in _INDEXES for path in channel.glob(f"*/{name}")
    }
    return tuple(sorted(found.items()))
