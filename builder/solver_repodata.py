"""Warm repodata: the solver process's one `Gateway`, what is loaded in it, and how it stays fresh."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rattler import Channel, Gateway, SourceConfig, Subdir
from rattler.exceptions import GatewayError
from rattler.networking import Client

from builder.addresses import endpoint
from builder.errors import ChannelUnavailable

log = logging.getLogger(__name__)

ChannelSubdir = tuple[str, str]
"""A channel's URL and a platform or `noarch`."""

CONNECTIONS = 1000
"""More than hanging channels can hold at a time: a request that waits for one of them would hang with them."""

_RETRIES = 2
_INDEXES = ("repodata.json", "repodata.json.zst", "repodata_shards.msgpack.zst")


class Repodata:
    """Keeps the repodata of channels in use in memory and on disk, shards where a channel has them.

    - An index that is loaded stays as it is until `refresh`, which loads everything in use into a second gateway and
      then exchanges the two, so nobody waits for it. A `file://` channel is looked at on every use instead.
    - A channel whose server cannot be reached is read from the copy on disk, however old, until a refresh reaches it:
      a build from known packages should not fail because an index cannot be asked whether it is the newest.
      A channel that answers with a refusal (401, 403, 404) is not read from the copy.
    """

    def __init__(self, directory: Path, client: Client) -> None:
        self._directory = directory
        self._client = client
        self._offline: frozenset[str] = frozenset()
        self._gateway = self._open(self._offline)
        self._loaded: set[ChannelSubdir] = set()
        self._used: dict[ChannelSubdir, float] = {}
        self._stamps: dict[str, tuple[object, ...]] = {}
        self._refreshing = asyncio.Lock()

    @property
    def client(self) -> Client:
        return self._client

    async def gateway(self, urls: Iterable[str], platforms: Iterable[str]) -> Gateway:
        """A gateway in which every channel is loaded for the platforms; raises ChannelUnavailable."""
        urls, platforms = tuple(urls), tuple(platforms)
        self._forget_changed(urls)
        wanted = {(url, platform) for url in urls for platform in platforms}
        now = time.monotonic()
        self._used.update(dict.fromkeys(wanted, now))
        if not wanted <= self._loaded:
            await self._load_missing(wanted)
        return self._gateway

    async def refresh(self, idle_seconds: float = 0) -> None:
        """Read every index anew that was used within `idle_seconds` (0: all ever used); the rest is let go."""
        async with self._refreshing:
            since = time.monotonic() - idle_seconds if idle_seconds else 0.0
            self._used = {subdir: used for subdir, used in self._used.items() if used >= since}
            in_use = set(self._used)
            fresh = self._open(frozenset())
            failures = await _load(fresh, in_use)
            offline = frozenset(url for url, reason in failures.items() if _is_unreachable(reason))
            if offline:
                fresh = self._open(offline)
                failures = await _load(fresh, in_use)
            for url in offline - failures.keys():
                log.warning("channel %s cannot be reached; its last known packages are used", url)
            self._gateway, self._offline = fresh, offline - failures.keys()
            self._loaded = {subdir for subdir in in_use if subdir[0] not in failures}

    async def _load_missing(self, wanted: set[ChannelSubdir]) -> None:
        failures = await _load(self._gateway, wanted - self._loaded)
        unreachable = {url for url, reason in failures.items() if _is_unreachable(reason)} - self._offline
        if unreachable:
            copies = await _load(
                self._open(frozenset(unreachable)), {subdir for subdir in wanted if subdir[0] in unreachable}
            )
            for url in unreachable - copies.keys():
                log.warning("channel %s cannot be reached (%s); its last known packages are used", url, failures[url])
                del failures[url]
                self._offline |= {url}
            if unreachable - copies.keys():
                self._gateway = self._open(self._offline)
                self._loaded.clear()
        self._loaded |= {subdir for subdir in wanted if subdir[0] not in failures}
        for url, reason in failures.items():
            raise ChannelUnavailable(url, reason)

    def _open(self, offline: frozenset[str]) -> Gateway:
        """A new gateway over the same disk cache; channels in `offline` are only read from there."""
        return Gateway(
            cache_dir=self._directory,
            client=self._client,
            max_concurrent_requests=CONNECTIONS,
            per_channel_config={url: SourceConfig(cache_action="force-cache-only") for url in offline},
        )

    def _forget_changed(self, urls: Iterable[str]) -> None:
        for url in urls:
            if url.startswith("file:"):
                stamp = _stamp(Path(unquote(urlsplit(url).path)))
                if self._stamps.setdefault(url, stamp) != stamp:
                    self._stamps[url] = stamp
                    self._gateway.clear_repodata_cache(Channel(url))


async def _load(gateway: Gateway, subdirs: Iterable[ChannelSubdir]) -> dict[str, str]:
    """Read the indexes of `subdirs`; the reasons of those channels that failed."""
    platforms: dict[str, list[str]] = {}
    for url, platform in subdirs:
        platforms.setdefault(url, []).append(platform)
    answers = await asyncio.gather(
        *(
            gateway.names([Channel(url)], list(map(Subdir, names)), channel_relations="disabled")
            for url, names in platforms.items()
        ),
        return_exceptions=True,
    )
    failures: dict[str, str] = {}
    for url, answer in zip(platforms, answers, strict=True):
        if isinstance(answer, GatewayError):
            failures[url] = gateway_reason(str(answer), url)
        elif isinstance(answer, BaseException):
            raise answer
    return failures


def gateway_reason(text: str, channel: str = "") -> str:
    """What a person can use of a gateway's error; of addresses outside of `channel`, its URL, only that they failed.

    A channel chooses what it refers to, so what happened there is not for whoever asks for the channel.
    """
    found = re.search(r"for url \((\w+://[^)]*)\)", text)
    url = found[1] if found else ""
    host = urlsplit(url).netloc
    refusal = _refusal(text, url)
    if url and channel and _is_elsewhere(url, channel):
        log.warning("channel %s refers elsewhere: %s", channel, text)
        return (
            f"it refers to {host}, {refusal}" if refusal else f"unreachable: nothing is got from {host}, its referral"
        )
    if refusal:
        return f"it is {refusal}"
    if "tunnel error" in text or "(599 " in text:
        return f"unreachable: no connection to {host} can be made"
    if match := re.search(r"HTTP status \w+ error \((\d+) [^)]*\) for url \(([^)]*)\)", text):
        status, url = match[1], match[2]
        if status in ("401", "403"):
            return f"it answers {status} for {url}; its credentials are missing or wrong"
        if status == "404":
            return f"{url} is not there (404); is that the channel's name?"
        return f"unreachable: it answers {status} for {url}"
    if match := re.search(r"failed to open file `([^`]*)`: (.*?) \(os error", text):
        return f"{match[1]}: {match[2]}"
    lines = [line.removeprefix("Caused by: ") for line in text.splitlines() if line.strip()]
    causes = [lines[0], lines[-1]] if len(lines) > 1 else lines
    return "unreachable: " + ": ".join(causes)


def _refusal(text: str, url: str) -> str:
    """What the guarding proxy has against an address, by its answers; empty where it has nothing."""
    plain = url.startswith("http:")
    if "proxy authorization required" in text or (plain and "(407 " in text):
        return "at an internal address, where nothing is read that no setting names (channels, allowed_channels)"
    if plain and "(426 " in text:
        return "spoken to by http, which no channel that is asked for is"
    return ""


def _is_elsewhere(url: str, channel: str) -> bool:
    """Whether an address is of another server than the channel's. Of `oci://` ones rattler ignores the port."""
    if channel.startswith("oci:"):
        return urlsplit(url).hostname != urlsplit(channel).hostname
    return endpoint(url) != endpoint(channel)


def _is_unreachable(reason: str) -> bool:
    return reason.startswith("unreachable")


def _stamp(channel: Path) -> tuple[object, ...]:
    """Changes whenever an index of the channel in a directory is rewritten."""
    found: Mapping[str, int] = {
        str(path): path.stat().st_mtime_ns for name in _INDEXES for path in channel.glob(f"*/{name}")
    }
    return tuple(sorted(found.items()))
