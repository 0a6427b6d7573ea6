"""Which indexes of PyPI packages may be asked, and where an index may send us for wheels: as for channels.

The requirements of a stranger may name indexes, so the settings say which ones may be named. What an index links to is
the choice of its owner: another public host, as PyPI's wheels are at files.pythonhosted.org, but never a file of this
machine, never plain http where the index is https, and never an internal host other than those that the settings name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self
from urllib.parse import urlsplit

from builder.channels.channel import strip_credentials
from builder.channels.patterns import ANY, WILD, Others, fits_pattern, resolve_pattern
from builder.errors import IndexNotAllowed, PackageRefused
from builder.locks.lock import LockedPackage
from builder.network.addresses import split_endpoint
from storage.text import redact

PYPI = "https://pypi.org/simple"


def check_index(text: str) -> str:
    """An index's address in its one form, without a slash at its end. Raises ValueError."""
    try:
        parts = urlsplit(text)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError(f"{redact(text)!r} is not an address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not has_port:
        raise ValueError(f"{redact(text)!r} is not the address of an index, such as {PYPI}")
    if strip_credentials(text) != text or parts.query or parts.fragment or not text.isprintable() or " " in text:
        raise ValueError(f"{redact(text)!r} must be an address without a user, password, token or query")
    return parts._replace(netloc=parts.netloc.lower()).geturl().rstrip("/")


def check_index_pattern(text: str) -> str:
    """Check a pattern from the settings. Raises ValueError."""
    if text != ANY and (not text.startswith(("http://", "https://")) or strip_credentials(text) != text):
        raise ValueError(f"{redact(text)!r} is neither * nor an http:// or https:// address without credentials")
    return text


@dataclass(frozen=True)
class IndexPolicy:
    """`indexes` and `patterns` are the settings pypi_indexes and allowed_indexes.

    In a pattern `*` stands for anything; in the host, it matches nothing beyond the host. `*` alone means every index
    at a public address.
    """

    indexes: tuple[str, ...] = (PYPI,)
    patterns: tuple[str, ...] = ()
    others: Others = "none"

    @classmethod
    def of(cls, indexes: tuple[str, ...], patterns: tuple[str, ...], others: Others) -> Self:
        """Make a policy. `all`, from the command line, always applies; of other callers only the patterns count."""
        if others != "all":
            others = "public" if ANY in patterns else "none"
        return cls(tuple(map(check_index, indexes)), tuple(each for each in patterns if each != ANY), others)

    def list_asked(self, wanted: tuple[str, ...]) -> tuple[str, ...]:
        """The addresses of the indexes that are asked, in order: those wanted, or else the settings'.

        Raises IndexNotAllowed.
        """
        return tuple(dict.fromkeys(map(self.address_of, wanted))) if wanted else self.indexes

    def address_of(self, index: str) -> str:
        """An index's address in its one form. Raises IndexNotAllowed."""
        try:
            url = check_index(index)
        except ValueError as error:
            raise IndexNotAllowed(redact(index), str(error)) from None
        if self._is_named(url) or self.others != "none":
            return url
        raise IndexNotAllowed(redact(index))

    def check_package(self, package: LockedPackage) -> None:
        """Raises IndexNotAllowed, or PackageRefused if its index may not send us there for it."""
        index = self.address_of(package.channel)
        if problem := find_link_problem(index, package.url):
            raise PackageRefused(package.file_name, problem)

    def internal_of(self, index: str) -> frozenset[str]:
        """The internal hosts that `index` may refer to: as `ChannelPolicy.internal_of`."""
        url = self.address_of(index)
        own = {split_endpoint(url)} - {""}
        if self._is_named(url):
            return self._internal | own
        return frozenset(own if self.others == "all" else own & self._internal)

    def _is_named(self, url: str) -> bool:
        return url in self.indexes or any(fits_pattern(url + "/", each) for each in self._resolved)

    @cached_property
    def _resolved(self) -> tuple[str, ...]:
        return tuple(resolve_pattern(each, "") for each in self.patterns)

    @cached_property
    def _internal(self) -> frozenset[str]:
        """`host:port` of all indexes that the settings name. Any of these may be internal."""
        named = [*self.indexes, *(each for each in self.patterns if not WILD.search(urlsplit(each).netloc))]
        return frozenset(map(split_endpoint, named)) - {""}


def find_link_problem(index: str, url: str) -> str | None:
    """What is wrong with the address of a file that `index` has a link to."""
    try:
        its = urlsplit(url)
        its_host, _ = its.hostname, its.port
    except ValueError:
        return "its address in the index is none"
    if its.scheme not in ("http", "https") or not its_host:
        return f"its address in the index uses {its.scheme[:20] or 'no scheme'}:, which is not supported"
    if its.scheme == "http" and index.startswith("https:"):
        return "its index uses https, but the wheel's address uses http"
    if "@" in its.netloc:
        return "its address in the index has credentials"
    return None
