"""Lists all packages of a channel, for searches: reads its whole repodata, and writes the index of `builder.search`.

Not by the gateway that solves use: it would keep every record in memory, and fetch a file for each name from a channel
that has shards. Reading parses no match spec.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson
import structlog
import zstandard
from rattler import Channel, RepoDataRecord, SparseRepoData, Subdir, fetch_repo_data
from rattler.exceptions import FetchRepoDataError
from rattler.networking import Client
from rattler.package_streaming import download_to_path

from builder.errors import ChannelRefused
from builder.locks.lock import LockedPackage
from builder.search.index_file import Written, read_source, write_index
from builder.search.package import ListedPackage, SearchedChannel
from builder.solve.indexes.folder import RepodataFolder
from builder.solve.indexes.record_problem import find_record_problem
from builder.solve.indexes.repodata import RepodataLimits, make_channel_error, read_gateway_reason
from storage.text import printable_line

log = structlog.get_logger(__name__)

_LACKING = "repodata not found"
_SUMMARIES = "channeldata.json"
_SUMMARIES_SECONDS = 60.0
_MOST_SUMMARIES = 128 << 20
"""Bytes of the file of summaries; conda-forge's has a quarter of that."""
_LONGEST = 300
"""Characters of a summary or a licence."""
_LARGEST = 1 << 53
"""Of a number that every reader of JSON can read."""
_TEMPORARY = ".tmp-listing-"


class _Lacking(Exception):
    """The channel has nothing for a platform, which is no error if it has something for another."""


class ChannelListing:
    """`folder` is that of all repodata, whose files are shared with solves."""

    def __init__(
        self,
        channel: SearchedChannel,
        platforms: Sequence[str],
        client: Client,
        folder: RepodataFolder,
        limits: RepodataLimits,
    ) -> None:
        self._channel = channel
        self._platforms = platforms
        self._client = client
        self._folder = folder
        self._limits = limits

    async def write(self, path: Path) -> dict[str, Any]:
        """Write the index to `path`, unless the one there was made from the same repodata.

        Returns the fields of Written. Raises ChannelUnavailable, ChannelRefused, StorageFull.
        """
        sources = await self._open_all()
        source = await asyncio.to_thread(self._describe_source)
        if await asyncio.to_thread(read_source, path) == source:
            os.utime(path)
            return asdict(Written(0, 0))
        summaries = await self._read_summaries()
        try:
            written = await asyncio.to_thread(write_index, path, self._channel, _list_names(sources), summaries, source)
        except sqlite3.Error as error:
            raise ChannelRefused(self._channel.name, f"the index of its packages cannot be written ({error})") from None
        await asyncio.to_thread(self._folder.trim)
        log.info("packages listed", channel=self._channel.name, packages=written.packages, skipped=written.skipped)
        return asdict(written)

    async def _open_all(self) -> dict[str, SparseRepoData]:
        """By platform, without those that the channel lacks. Raises ChannelUnavailable, ChannelRefused."""
        sources: dict[str, SparseRepoData] = {}
        lacking = ""
        for platform in self._platforms:
            try:
                sources[platform] = await self._open(platform)
            except _Lacking as error:
                lacking = lacking or str(error)
        if not sources:
            raise self._explain(lacking)
        return sources

    async def _open(self, platform: str) -> SparseRepoData:
        """Raises _Lacking, ChannelUnavailable, ChannelRefused."""
        try:
            if self._local is not None:
                return await asyncio.to_thread(self._open_local, self._local, platform)
            return await self._fetch(platform)
        except FetchRepoDataError as error:
            text = str(error)
            raise (_Lacking(text) if text.startswith(_LACKING) else self._explain(text)) from None
        except zstandard.ZstdError as error:
            raise self._explain_content(error) from None
        except OSError as error:
            # without a number it is rattler's, for content that it cannot parse
            raise (self._explain_system(error) if error.errno else self._explain_content(error)) from None

    def _explain_content(self, error: Exception) -> Exception:
        text = printable_line(str(error)[:_LONGEST])
        return make_channel_error(self._channel.name, f"its index is broken: {text}")

    def _explain_system(self, error: OSError) -> Exception:
        number = f"(os error {error.errno})"
        if error.errno == errno.EFBIG:
            return self._explain(f"the copy is too large {number}")
        text = f"failed to open file `{error.filename}`: {error.strerror} {number}"
        return _Lacking(text) if error.errno == errno.ENOENT else self._explain(text)

    def _explain(self, text: str) -> Exception:
        reason = read_gateway_reason(text, self._channel.url, self._limits.size)
        return make_channel_error(self._channel.name, reason)

    @property
    def _local(self) -> Path | None:
        """The directory of a channel that is one."""
        parts = urlsplit(self._channel.url)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None

    async def _fetch(self, platform: str) -> SparseRepoData:
        (found,) = await fetch_repo_data(
            channels=[Channel(self._channel.url)],
            platforms=[Subdir(platform)],
            cache_path=self._folder.path,
            callback=None,
            client=self._client,
        )
        return found

    def _open_local(self, directory: Path, platform: str) -> SparseRepoData:
        """A copy is opened, which nobody changes while it is read. Raises OSError, FetchRepoDataError."""
        with self._temporary() as copy:
            plain = directory / platform / "repodata.json"
            packed = plain.with_suffix(".json.zst")
            if plain.exists() or not packed.exists():
                shutil.copyfile(plain, copy)
            else:
                with packed.open("rb") as source, copy.open("wb") as target:
                    zstandard.ZstdDecompressor().copy_stream(source, target)
            return SparseRepoData(Channel(self._channel.url), platform, copy)

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[Path]:
        path = self._folder.path / f"{_TEMPORARY}{secrets.token_hex(8)}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _describe_source(self) -> str:
        """A text that changes whenever the repodata does."""
        facts: list[object] = []
        for platform in self._platforms:
            if self._local is not None:
                for path in sorted((self._local / platform).glob("repodata.json*")):
                    status = path.stat()
                    facts.append([platform, path.name, status.st_size, status.st_mtime_ns])
                continue
            for path in self._folder.path.glob("*.info.json"):
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                    about = orjson.loads(path.read_bytes())
                    if about["url"].startswith(f"{self._channel.url}{platform}/"):
                        facts.append([about["url"], about["blake2_hash"]])
        return hashlib.sha256(repr(sorted(map(repr, facts))).encode()).hexdigest()

    async def _read_summaries(self) -> dict[str, str]:
        """What the channel says of its packages; nothing if it does not say it. A search works without."""
        with self._temporary() as path:
            try:
                if self._local is not None:
                    await asyncio.to_thread(shutil.copyfile, self._local / _SUMMARIES, path)
                else:
                    async with asyncio.timeout(_SUMMARIES_SECONDS):
                        await download_to_path(self._client, f"{self._channel.url}{_SUMMARIES}", path)
                return await asyncio.to_thread(_parse_summaries, path)
            except Exception as error:  # noqa: BLE001 - whatever rattler raises, or is in the file, packages are listed
                log.info("a channel has no summaries", channel=self._channel.name, reason=printable_line(str(error)))
                return {}


def _parse_summaries(path: Path) -> dict[str, str]:
    """Raises ValueError, OSError."""
    if path.stat().st_size > _MOST_SUMMARIES:
        raise ValueError(f"{_SUMMARIES} has {path.stat().st_size} bytes; at most {_MOST_SUMMARIES} are read")
    packages = orjson.loads(path.read_bytes())["packages"]
    return {
        name: _shorten(about["summary"])
        for name, about in packages.items()
        if isinstance(about, dict) and isinstance(about.get("summary"), str)
    }


def _list_names(sources: dict[str, SparseRepoData]) -> Iterator[tuple[str, Iterator[ListedPackage | None]]]:
    """All names in order, each with its packages; None stands for what cannot be read."""
    places: dict[str, list[tuple[str, str]]] = {}
    for platform, source in sources.items():
        for name in source.package_names():
            places.setdefault(name.lower(), []).append((platform, name))
    for lower in sorted(places):
        yield lower, _list_packages(sources, places[lower])


def _list_packages(sources: dict[str, SparseRepoData], places: list[tuple[str, str]]) -> Iterator[ListedPackage | None]:
    for platform, name in places:
        try:
            records = sources[platform].load_records(name)
        except Exception:  # noqa: BLE001 - a record of this name cannot be read; other names have nothing to do with it
            yield None
            continue
        for record in records:
            yield _read(record, platform)


def _read(record: RepoDataRecord, platform: str) -> ListedPackage | None:
    """None for a record that no image may have a package of."""
    size, sha256, md5 = record.size, record.sha256, record.md5
    package = LockedPackage(
        name=record.name.normalized,
        version=str(record.version),
        build=str(record.build),
        build_number=record.build_number,
        subdir=record.subdir,
        channel="",
        url="",
        file_name=record.file_name,
        size=size,
        sha256=sha256.hex() if sha256 else None,
        md5=md5.hex() if md5 else None,
    )
    if package.build_number > _LARGEST or find_record_problem(package, platform):
        return None
    return ListedPackage(
        *(package.name, package.version, package.build, package.build_number, package.subdir, package.file_name),
        *(_shorten(record.license) if record.license else None, size, _read_time(record)),
        *(package.sha256, package.md5, len(record.depends)),
    )


def _read_time(record: RepoDataRecord) -> int | None:
    try:
        moment = record.timestamp
    except (OverflowError, ValueError):
        return None
    return round(moment.timestamp() * 1000) if moment else None


def _shorten(text: str) -> str:
    return printable_line(" ".join(text[: 2 * _LONGEST].split())[:_LONGEST])
