"""Which channels packages may come from, and where a channel may send us for them.

An image name chooses channels, so a stranger does; the settings say which ones may be chosen. What a channel then
refers to (its packages' addresses) is the choice of the channel's owner. It must never be inside this machine or its
network, unless the settings name that very channel there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

from builder.channels.channel import resolve_address, strip_credentials
from builder.channels.index_policy import IndexPolicy
from builder.channels.patterns import ANY, WILD, Others, fits_pattern, resolve_pattern
from builder.errors import ChannelNotAllowed, ChannelUnavailable, PackageRefused
from builder.locks.lock import Lock, LockedPackage
from builder.names.spec import EnvironmentSpec
from builder.network.addresses import split_endpoint
from storage.text import redact


@dataclass(frozen=True)
class ChannelPolicy:
    """`channels` and `alias` are settings; `patterns` is the setting `allowed_channels`.

    A pattern is a channel's name or URL in which `*` stands for anything; in the host, it matches nothing beyond the
    host. `*` alone means every channel at a public address.
    """

    channels: tuple[str, ...] = ()
    alias: str = "https://conda.anaconda.org"
    patterns: tuple[str, ...] = ()
    others: Others = "none"
    indexes: IndexPolicy = field(default_factory=IndexPolicy)
    """The same for indexes of PyPI packages."""

    @classmethod
    def of(
        cls,
        channels: tuple[str, ...],
        alias: str,
        patterns: tuple[str, ...],
        others: Others,
        indexes: IndexPolicy | None = None,
    ) -> Self:
        """Make a policy. `others` applies if `patterns` is empty; `all`, from the command line, always applies."""
        if others != "all" and patterns:
            others = "public" if ANY in patterns else "none"
        return cls(channels, alias, tuple(each for each in patterns if each != ANY), others, indexes or IndexPolicy())

    def address_of(self, channel: str) -> str:
        """Return a channel's address. Raises ChannelNotAllowed, or ChannelUnavailable if it is not a channel."""
        url = resolve_address(channel, self.alias)
        if self._is_allowed(url):
            return url
        raise ChannelNotAllowed(redact(channel))

    def is_own(self, channel: str) -> bool:
        """Whether it is one of the setting `channels`. Raises ChannelUnavailable if it is not a channel."""
        return resolve_address(channel, self.alias) in self._named

    def list_named(self) -> dict[str, str]:
        """The channels that the settings name, by URL, in their order; patterns with a wildcard name none."""
        named: dict[str, str] = {}
        for channel in [*self.channels, *(each for each in self.patterns if not WILD.search(each))]:
            with contextlib.suppress(ChannelUnavailable):
                named.setdefault(resolve_address(channel, self.alias), channel)
        return named

    def check(self, spec: EnvironmentSpec) -> None:
        """Raises ChannelNotAllowed, or IndexNotAllowed, for the first in the spec that is not allowed."""
        for channel in list_channels(spec):
            self.address_of(channel)
        if spec.requirements:
            self.indexes.list_asked(spec.indexes)

    def check_package(self, package: LockedPackage) -> None:
        """Raises ChannelNotAllowed, or PackageRefused if its channel may not send us there for it.

        Of a wheel likewise for its index.
        """
        if package.is_wheel:
            self.indexes.check_package(package)
            return
        channel = self.address_of(package.channel)
        own, its = urlsplit(channel), urlsplit(package.url)
        if its.scheme not in ("http", "https", "file", "oci"):
            problem = f"its address in the channel's index uses {its.scheme or 'no scheme'}:, which is not supported"
        elif its.scheme == "file" and (own.scheme != "file" or not is_below(package.url, channel)):
            problem = "its channel's index places it among this machine's files, outside of the channel"
        elif its.scheme == "http" and own.scheme in ("https", "oci"):
            problem = "its channel uses https, but the package's address uses http"
        elif strip_credentials(package.url) != package.url:
            problem = "its address in the channel's index has credentials"
        else:
            return
        raise PackageRefused(package.file_name, problem)

    def check_lock(self, lock: Lock) -> None:
        """Raises as `check_package`, for the first of all packages that is not allowed."""
        for packages in lock.packages.values():
            for package in packages:
                self.check_package(package)

    def internal_of(self, channel: str) -> frozenset[str]:
        """Return the internal hosts that `channel` may refer to.

        A channel in the settings may refer to all hosts that they name, any other only to its own. So a stranger's
        channel never makes the server read what the server may see and the stranger may not.
        """
        url = resolve_address(channel, self.alias)
        own = {split_endpoint(url)} - {""}
        if self._is_named(url):
            return self.internal | own
        return frozenset(own if self.others == "all" else own & self.internal)

    @cached_property
    def internal(self) -> frozenset[str]:
        """`host:port` of all channels that the settings name, and of the alias. Any of these may be internal."""
        named = [
            self.alias,
            *self._named,
            *(each for each in self._patterns if not WILD.search(urlsplit(each).netloc)),
        ]
        return frozenset(map(split_endpoint, named)) - {""}

    def _is_allowed(self, url: str) -> bool:
        return self._is_named(url) or self.others == "all" or (self.others == "public" and not url.startswith("file:"))

    def _is_named(self, url: str) -> bool:
        return url in self._named or any(fits_pattern(url, each) for each in self._patterns)

    @cached_property
    def _named(self) -> frozenset[str]:
        return frozenset(_addresses(self.channels, self.alias))

    @cached_property
    def _patterns(self) -> tuple[str, ...]:
        return tuple(resolve_pattern(each, self.alias) for each in self.patterns)


def list_channels(spec: EnvironmentSpec) -> tuple[str, ...]:
    """List all channels that the spec names, each once."""
    return tuple(dict.fromkeys([*spec.channels, *(item.channel for item in spec.items if item.channel)]))


def is_below(url: str, channel: str) -> bool:
    """Whether a file is in a channel's directory, whose address ends in `/`, after following all links."""
    if urlsplit(url).netloc not in ("", "localhost"):
        return False
    path, directory = _parse_path(url), _parse_path(channel)
    if "\0" in path:
        return False
    # to resolve both takes 0.1 ms, for each package of an image
    return _is_plainly_below(path, directory) or Path(path).resolve().is_relative_to(Path(directory).resolve())


def _is_plainly_below(path: str, directory: str) -> bool:
    """Whether no link and no `..` leads anywhere else on the way from `directory` to `path`."""
    if not path.startswith(directory):
        return False
    on_the_way = directory
    for step in path[len(directory) :].split("/"):
        on_the_way = os.path.join(on_the_way, step)
        if step == ".." or os.path.islink(on_the_way):
            return False
    return True


def _parse_path(url: str) -> str:
    return unquote(urlsplit(url).path)


def _addresses(channels: Iterable[str], alias: str) -> Iterable[str]:
    for channel in channels:
        try:
            yield resolve_address(channel, alias)
        except ChannelUnavailable:
            # reported when the channel is used
            continue
