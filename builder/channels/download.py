"""Downloads package archives from channels to `<data>/archives` and verifies them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self
from urllib.parse import unquote, urlsplit

import aiohttp
import structlog

from builder.channels.asking import Asking, Origins
from builder.channels.channel import Credentials
from builder.channels.logins import NO_LOGINS, Logins
from builder.channels.part_file import PartFile
from builder.channels.policy import ChannelPolicy
from builder.channels.transfer import Problem, Received, Transfer
from builder.errors import BuilderError, DownloadFailed, PackageRefused
from builder.locks.lock import LockedPackage
from builder.network.addresses import InternalAddress
from builder.network.pace import Pace, TooSlow
from builder.work.single_flight import SingleFlight
from builder.work.turns import GaveWay, Lane
from storage.cancellation import to_end
from storage.disk.files import mark_used
from storage.errors import StorageFull

log = structlog.get_logger(__name__)

_OTHER_PROCESS = 0.5
"""Seconds between two checks of a download that another process does."""
_LONGEST_WAIT = 60.0
_KEPT = 3
"""Times the patience for which a connection is kept if those who wait have as many as its caller."""
_LONG = 6
"""Slots for long connections, as a multiple of the others. Long connections may transfer next to nothing."""

FetchOci = Callable[[str, Path, Logins], Awaitable[None]]
"""Writes the content of an `oci://` address to a path, like `OwnSolvers.download`."""


@dataclass(frozen=True)
class DownloadSettings:
    """`directory` is `<data>/archives`. A connection that brings fewer than `least` bytes in `seconds` is given up.

    `policy` says from which channels packages may be fetched, and where those channels may send us for them.
    """

    directory: Path
    policy: ChannelPolicy = field(default_factory=ChannelPolicy)
    limit: int = 8
    seconds: float = 60
    least: int = 1
    longest: float = 3600
    """Seconds for one archive, all attempts together."""
    attempts: int = 5
    """Consecutive attempts that bring nothing new, or too little, after which a download fails."""
    backoff: float = 0.5
    """Seconds before the second attempt; doubled before each further one."""
    patience: float = 1
    """Seconds after which a connection moves from its slot to a long one, or gives way."""

    def origins_of(self, package: LockedPackage) -> Origins:
        return self.policy.indexes if package.is_wheel else self.policy


EXTENSIONS = (".conda", ".tar.bz2")
WHEEL = ".whl"


class Downloader:
    """Fetches archives in parallel, at most `limit` at a time, and each once from its channel, however many want it.

    Slots are for connections: a download that waits for its next attempt has none. A long connection moves to a long
    slot. If none is free, it is closed as soon as that lets another start. It resumes later where it stopped; if the
    server has no ranges, it starts from the beginning and is kept twice as long.

    An archive gets its final name once it is whole and has the hash in its record. Until then it grows in a `.part`
    file of its source, from which a later attempt resumes, even in a later process. Credentials go only to their own
    host, and only for packages of a channel of the same organisation. Proxies are those in the environment.
    """

    def __init__(self, settings: DownloadSettings, credentials: Credentials, fetch_oci: FetchOci | None = None) -> None:
        self._settings = settings
        self._credentials = credentials
        self._fetch_oci = fetch_oci
        self._asking = Asking(credentials, (1 + _LONG) * settings.limit, settings.seconds)
        self._flights: SingleFlight[str, Path] = SingleFlight()
        self._lane = Lane(
            settings.limit,
            kept=settings.limit // 4,
            long=_LONG * settings.limit,
            patience=settings.patience,
            extra=1,
            what="a turn to download",
        )

    async def __aenter__(self) -> Self:
        self._settings.directory.mkdir(parents=True, exist_ok=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._flights.close()
        await self._asking.close()

    async def fetch(
        self, package: LockedPackage, received: Received | None = None, *, logins: Logins = NO_LOGINS
    ) -> Path:
        """Return the verified archive of `package`.

        For a `file://` channel that is its own file, of which only the size is checked. If the record has both hashes,
        the sha256 is compared. `received` is called with byte counts for the caller that downloads, not for those that
        join. `logins` are those of the package's owner. Raises ChannelNotAllowed, DownloadFailed, PackageRefused (no
        hash, a hash or size that differs from the record, or an address to which its channel may not send us),
        StorageFull.
        """
        self._settings.origins_of(package).check_package(package)
        if not (package.sha256 or package.md5):
            raise PackageRefused(package.file_name, "its channel's index gives neither sha256 nor md5 for it")
        if package.url.startswith("file://"):
            return _find_local(package)
        return await self._flights.do(package.source_key, lambda: self._fetch(package, received or _ignore, logins))

    def has(self, package: LockedPackage) -> bool:
        """Whether the archive is on this machine. It reads the disk."""
        if package.url.startswith("file://"):
            return True
        if not package.file_name.endswith(_list_extensions(package)) or not (package.sha256 or package.md5):
            return False
        return _is_whole(self._path_of(package), package.size)

    def _path_of(self, package: LockedPackage) -> Path:
        return self._settings.directory / f"{package.archive_key}{_find_extension(package)}"

    async def _fetch(self, package: LockedPackage, received: Received, logins: Logins) -> Path:
        path = self._path_of(package)
        algorithm: Literal["sha256", "md5"] = "sha256" if package.sha256 else "md5"
        await asyncio.to_thread(mark_used, path)
        try:
            async with asyncio.timeout(self._settings.longest) as limit:
                while not _is_whole(path, package.size):
                    await self._fetch_once(package, path, algorithm, received, logins)
        except TimeoutError:
            if limit.expired():
                raise DownloadFailed(package.file_name, self._too_long) from None
            raise
        return path

    async def _fetch_once(
        self,
        package: LockedPackage,
        path: Path,
        algorithm: Literal["sha256", "md5"],
        received: Received,
        logins: Logins,
    ) -> None:
        """Download the archive to `path`, or pause for a moment while another process does."""
        with contextlib.ExitStack() as opened:

            def open_part() -> PartFile | None:
                part = PartFile.open(path, package.source_key, algorithm)
                if part:
                    opened.callback(part.close)
                return part

            # run to its end: what a thread opens for a cancelled caller must be closed too
            part = await to_end(asyncio.to_thread(open_part))
            if part is None:
                await asyncio.sleep(_OTHER_PROCESS)
                return
            try:
                await self._complete(package, part, received, logins)
                await to_end(asyncio.to_thread(part.publish))
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    part.discard()
                    raise StorageFull(f"package {package.file_name}") from None
                raise

    @property
    def _too_long(self) -> str:
        return f"it took more than the allowed {self._settings.longest:g} s (setting build_download_seconds)"

    async def _complete(self, package: LockedPackage, part: PartFile, received: Received, logins: Logins) -> None:
        """Complete the archive in `part`, or raise. Starts over once if an old part does not fit."""
        resumed = part.size > 0
        await self._bring(package, part, received, logins)
        if resumed and _describe_problem(package, part):
            await asyncio.to_thread(part.restart)
            await self._bring(package, part, received, logins)
        if problem := _describe_problem(package, part):
            part.discard()
            raise PackageRefused(package.file_name, problem)

    async def _bring(self, package: LockedPackage, part: PartFile, received: Received, logins: Logins) -> None:
        """Fetch all bytes, over as many connections as it takes. Raises DownloadFailed."""
        if package.url.startswith("oci://"):
            await self._bring_oci(package, part, received, logins)
            return
        pace = Pace(self._settings.least, self._settings.seconds)
        redact = self._redactor(logins)
        transfer = Transfer(package, part, received, pace, _KEPT * self._settings.patience, redact)
        fruitless, most = 0, part.size
        while problem := await self._try(transfer, logins):
            if problem.gave_way:
                continue
            fruitless = 0 if part.size > most and not problem.slow else fruitless + 1
            most = max(most, part.size)
            if problem.final or fruitless >= self._settings.attempts:
                raise DownloadFailed(package.file_name, redact(problem.reason))
            wait = max(self._settings.backoff * 2**fruitless, problem.retry_after)
            await asyncio.sleep(min(wait, _LONGEST_WAIT))

    def _redactor(self, logins: Logins) -> Callable[[str], str]:
        """What removes all secrets that may be sent for a download: a server may repeat what it got."""
        return lambda text: logins.redact(self._credentials.redact(text))

    async def _try(self, transfer: Transfer, logins: Logins) -> Problem | None:
        """Use one connection. Returns what went wrong, or None if the archive is complete."""
        if transfer.is_complete():
            return None
        try:
            async with (
                self._lane.turn(interruptible_after=transfer.kept_for),
                transfer.pace.enforce(),
                self._get(transfer.package, transfer.make_headers(), logins) as response,
            ):
                return await transfer.take(response)
        except GaveWay:
            transfer.give_way()
            return Problem("it gave way to others", gave_way=True)
        except TooSlow as problem:
            return Problem(str(problem), slow=problem.came > 0)
        except InternalAddress as error:
            host = transfer.redact(error.host)
            log.warning("package not fetched from an internal address", package=str(transfer.package), host=host)
            return Problem(
                f"its channel refers to {error.host}, an internal address; only internal hosts that the settings name "
                "are contacted",
                final=True,
            )
        except TimeoutError:
            return Problem(f"it sent nothing for {self._settings.seconds:g} s")
        except aiohttp.ClientError as error:
            return Problem(str(error) or type(error).__name__)
        except ValueError:
            # invalid addresses and numbers in headers, from the libraries that parse them
            return Problem("it answers with an invalid header")

    def _get(
        self, package: LockedPackage, headers: dict[str, str], logins: Logins
    ) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._asking.get(package.url, package.channel, self._settings.origins_of(package), headers, logins)

    async def _bring_oci(self, package: LockedPackage, part: PartFile, received: Received, logins: Logins) -> None:
        if self._fetch_oci is None:
            raise DownloadFailed(package.file_name, "oci:// channels cannot be read here")
        try:
            async with self._lane.turn():
                await self._fetch_oci(package.url, part.path, logins)
        except BuilderError as error:
            raise DownloadFailed(package.file_name, self._redactor(logins)(str(error))) from None
        await asyncio.to_thread(part.rehash)
        received(part.size, package.size)


def _describe_problem(package: LockedPackage, part: PartFile) -> str | None:
    """Describe how the downloaded bytes differ from the package's record, or return None."""
    if package.size is not None and part.size != package.size:
        more = "or more " if part.size > package.size else ""
        return f"it has {part.size} {more}bytes, but its channel's index says {package.size}"
    kind, expected = ("sha256", package.sha256) if package.sha256 else ("md5", package.md5)
    if part.digest != expected:
        return f"its {kind} is {part.digest}, but its channel's index says {expected}"
    return None


def _is_whole(path: Path, size: int | None) -> bool:
    try:
        return size in (None, path.stat().st_size)
    except FileNotFoundError:
        return False


def _find_local(package: LockedPackage) -> Path:
    path = Path(unquote(urlsplit(package.url).path))
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DownloadFailed(package.file_name, f"{path}: {error.strerror}") from None
    if package.size not in (None, size):
        raise PackageRefused(
            package.file_name,
            f"it has {size} bytes, but its channel's index says {package.size}; index the channel again",
        )
    return path


def _list_extensions(package: LockedPackage) -> tuple[str, ...]:
    return (WHEEL,) if package.is_wheel else EXTENSIONS


def _find_extension(package: LockedPackage) -> str:
    for extension in _list_extensions(package):
        if package.file_name.endswith(extension):
            return extension
    raise PackageRefused(package.file_name, "it is neither a .conda nor a .tar.bz2 file, nor the wheel of an index")


def _ignore(_done: int, _size: int | None) -> None:
    """Ignores progress when nobody watches."""
