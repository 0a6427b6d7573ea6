"""One line of what is denied: a package, a range of its versions, and why.

    openssl <3.0.7                      # CVE-2022-3602
    openssl >=1.1,<1.1.1s|>=3,<3.0.7    # a | between ranges: either
    left-pad                            # all versions
    bioconda::samtools 1.2.*=h0_*       # of one channel, and of builds that match
    pypi:requests <2.31                 # of PyPI packages

The same as JSON, in which only the package is needed:

    {"package": "openssl", "versions": "<3.0.7", "build": "h*", "channel": "bioconda", "reason": "CVE-2022-3602"}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit, urlunsplit

from packaging.utils import canonicalize_name

from builder.channels.channel import resolve_address
from builder.errors import BuilderError
from builder.locks.lock import WHEEL_PREFIX
from builder.names.match_spec import parse_match_spec
from builder.names.spec import Constraint, PackageItem
from builder.policy.versions import matches, parse_version

LONGEST_REASON = 500
"""Characters; every refusal quotes it."""

_NAME_AND_RANGE = re.compile(r"(?P<name>(?:[^\s\[\]]+::)?[^\s=<>!~|\[\]]+)\s*(?P<rest>.*)", re.DOTALL)
_PLATFORM = re.compile(r"noarch|(linux|osx|win|freebsd|emscripten|wasi|zos)-[a-z0-9]+")
_USUAL_PORTS = {"https": ":443", "http": ":80"}
_FIELDS = ("package", "versions", "build", "channel", "reason")


class Candidate(NamedTuple):
    """A package as rules see it. `channel` is a URL that ends in `/`, `since` is in milliseconds UTC."""

    name: str
    version: str
    build: str
    channel: str
    license: str | None
    since: int | None
    """Since when the channel has had it, or, where it does not say, when it was built."""

    def __str__(self) -> str:
        return f"{self.name}-{self.version}-{self.build}"


@dataclass(frozen=True)
class Denial:
    """`items` are of one package: what any of them matches is denied. `text` is how people wrote it."""

    items: tuple[PackageItem, ...]
    text: str
    reason: str = ""

    @property
    def name(self) -> str:
        return self.items[0].name

    @property
    def is_whole(self) -> bool:
        """Whether no version, build or channel of the package is left."""
        return any(not item.version and not item.build and not item.channel for item in self.items)

    def holds(self, candidate: Candidate) -> bool:
        return any(_matches(item, candidate) for item in self.items)

    def __str__(self) -> str:
        return f"{self.text}: {self.reason}" if self.reason else self.text

    @property
    def line(self) -> str:
        """What `parse` reads."""
        return f"{self.text} # {self.reason}" if self.reason else self.text

    @classmethod
    def parse(cls, line: str, alias: str) -> Self:
        """From a line as above; `alias` is where channels are found by name. Raises ValueError."""
        text, _, reason = line.partition("#")
        reason = _tidy(reason)
        if len(reason) > LONGEST_REASON:
            raise ValueError(f"the reason has {len(reason)} characters; at most {LONGEST_REASON} are allowed")
        return cls(tuple(_resolve(each, alias) for each in parse_items(text)), _tidy(text), reason)

    @classmethod
    def of_document(cls, document: Mapping[str, Any], alias: str) -> Self:
        """From JSON as above. Raises ValueError."""
        if unknown := sorted(document.keys() - _FIELDS):
            raise ValueError(f"{unknown[0][:60]!r} is not a field; the fields are {', '.join(_FIELDS)}")
        package, versions, build, channel, reason = (document.get(name, "") for name in _FIELDS)
        for name, value in document.items():
            if not isinstance(value, str) or (name != "reason" and "#" in value):
                raise ValueError(f"{name} must be text, without #")
        if not package:
            raise ValueError("package is missing")
        brackets = f'[build="{build}"]' if build else ""
        ranges = "|".join(f"{each.strip()}{brackets}" for each in versions.split("|"))
        return cls.parse(f"{channel}::{package} {ranges} # {reason}".removeprefix("::"), alias)


def parse_items(text: str) -> list[PackageItem]:
    """The package and the ranges of versions, parted by `|`, that a match spec names. Raises ValueError."""
    match = _NAME_AND_RANGE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text.strip()[:100]!r} is not a package, such as openssl <3.0.7")
    name, kind = match["name"], ""
    if name.startswith(WHEEL_PREFIX):
        kind, name = WHEEL_PREFIX, canonicalize_name(name.removeprefix(WHEEL_PREFIX))
    items = []
    for part in match["rest"].split("|"):
        # a space between two constraints joins them as a comma does, which not every list can hold
        joined = re.sub(r"(?<=[^,<>=!~\s])\s+(?=[<>=!~])", ",", part.strip())
        try:
            item = parse_match_spec(f"{name} {joined}" if joined else name)
        except BuilderError as error:
            raise ValueError(str(error)) from None
        for constraint in item.constraints:
            _check_constraint(constraint)
        items.append(replace(item, name=f"{kind}{item.name}"))
    return items


def _check_constraint(constraint: Constraint) -> None:
    parse_version(constraint.version.removesuffix(".*"))


def _resolve(item: PackageItem, alias: str) -> PackageItem:
    """`item` with its channel as a URL. Raises ValueError for a channel of which no package is."""
    if item.channel is None:
        return item
    try:
        channel = _spell(resolve_address(item.channel, alias))
    except BuilderError as error:
        raise ValueError(str(error)) from None
    if item.channel == "defaults":
        raise ValueError("defaults stands for several channels; name one, such as https://repo.anaconda.com/pkgs/main")
    place, _, last = channel.rstrip("/").rpartition("/")
    if _PLATFORM.fullmatch(last):
        raise ValueError(
            f"the channel {item.channel!r} ends in a platform; name {place}/, which means all of its packages"
        )
    return replace(item, channel=channel)


@lru_cache(maxsize=1 << 10)
def _spell(url: str) -> str:
    """The same spelling for every address of a channel that differs in upper case or a usual port alone."""
    parts = urlsplit(url)
    scheme, host = parts.scheme.lower(), parts.netloc.lower()
    return urlunsplit(parts._replace(scheme=scheme, netloc=host.removesuffix(_USUAL_PORTS.get(scheme, ":"))))


def matches_item(item: PackageItem, version: str, build: str) -> bool:
    """Whether a version and build of the package are those that `item` asks for. Raises ValueError."""
    if item.alternatives and not any(matches(version, group) for group in item.alternatives):
        return False
    return matches(version, item.constraints) and (item.build is None or _fits(build, item.build))


def _matches(item: PackageItem, candidate: Candidate) -> bool:
    if candidate.name != item.name or (item.channel is not None and item.channel != _spell(candidate.channel)):
        return False
    try:
        return matches_item(item, candidate.version, candidate.build)
    except ValueError:
        # what cannot be compared may be what is denied
        return True


def _fits(build: str, pattern: str) -> bool:
    if "*" not in pattern:
        return build == pattern
    return fnmatchcase(build.lower(), pattern.lower())


def _tidy(text: str) -> str:
    return " ".join(text.split())
