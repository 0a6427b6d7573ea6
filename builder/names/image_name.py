"""Image names: reads `<root>/<item>/<item>...[:tag]` into an `EnvironmentSpec`, and writes one as a name.

The grammar fits into what the OCI distribution specification allows as a repository name, so it has no `=`, `<`, `>`,
`*`, `+`, `!` and no upper case: `scipy.gt.1.0` is `scipy >1.0`, `x.eq.1__2.1--cu118` is `x ==1!2.1+cu118`.
"""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from heapq import nlargest
from itertools import pairwise
from typing import Protocol, TypeVar

from packaging.requirements import InvalidRequirement

from builder.errors import InvalidImageName
from builder.names.items import (
    Channel,
    Cuda,
    Platform,
    Pypi,
    Wish,
    find_keyword,
    parse_items,
    spell,
    write_item,
    write_requirement,
)
from builder.names.match_spec import check_channel, parse_match_spec
from builder.names.requirement import MATCH_SPEC, canonicalize, merge_requirements
from builder.names.spec import EnvironmentSpec, PackageItem, merge_items
from storage.oci import REPOSITORY_PART

MAX_NAME = 255
"""Characters in a repository name. For clients, a host and port in front of it count too."""
MAX_ITEMS = 200

_W = TypeVar("_W", bound=Wish)

TAGS = "a tag is latest, a day such as 2026-01-31, or lock- and at least 12 hex digits"

_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+)*(?:(?:a|b|rc|\.post|\.dev)[0-9]+)?")
"""What somebody may write as a tag who means a package's version, and an item can have."""
_HANDLE = re.compile(r"[0-9a-f]{12,64}")
HANDLE_DIGITS = 16
"""Digits in the handles that we give: too many for anybody to find a second spec with the same ones."""
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class NameSettings(Protocol):
    """What a name leaves open; `BuilderSettings` has it all."""

    @property
    def root(self) -> str: ...
    @property
    def channels(self) -> tuple[str, ...]: ...
    @property
    def platforms(self) -> tuple[str, ...]: ...
    @property
    def shell_packages(self) -> tuple[str, ...]: ...
    @property
    def prefix(self) -> str: ...


@dataclass(frozen=True)
class Latest:
    """The best solution now."""


@dataclass(frozen=True)
class UntilDate:
    """The best solution as of the end of `day`, UTC. Immutable once that day is over."""

    day: datetime.date


@dataclass(frozen=True)
class LockReference:
    """The lock whose key starts with `hex`: 12 to 64 digits."""

    hex: str


Reference = Latest | UntilDate | LockReference


@dataclass(frozen=True)
class ImageRequest:
    """What one `repository:tag` asks for. With `UntilDate`, `spec.until` is that day."""

    spec: EnvironmentSpec
    reference: Reference


def parse(
    repository: str, tag: str, settings: NameSettings, *, today: datetime.date, stored: EnvironmentSpec | None = None
) -> ImageRequest:
    """Parse `repository:tag`, where `today` is the day in UTC.

    `stored` is the spec whose handle `find_spec_handle` found in the name; a day in the tag overrides its own. Raises
    InvalidImageName.
    """
    handle = find_spec_handle(repository, settings)
    reference = _parse_reference(tag, today, repository)
    if handle is None:
        spec = _make_spec(_select(_split_items(repository, settings), settings), settings, item=repository)
    elif stored is None:
        raise InvalidImageName(
            f"spec.{handle}",
            "no stored spec has this handle, or several start with it; POST /api/v1/image/ stores a spec and gives its "
            "handle, and so does condery build, run on this server's data directory",
        )
    else:
        spec = stored
    return ImageRequest(replace(spec, until=reference.day) if isinstance(reference, UntilDate) else spec, reference)


def find_spec_handle(repository: str, settings: NameSettings) -> str | None:
    """Return the hex digits of `<root>/spec.<hex>`, for the caller to look up; None for any other name.

    Raises InvalidImageName if the item is malformed, or not the only one.
    """
    items = _split_items(repository, settings)
    handles = [item for item in items if find_keyword(item) == "spec"]
    if not handles:
        return None
    if len(items) > 1:
        raise InvalidImageName(handles[0], "a stored spec is a whole environment; the name cannot have other items")
    handle = handles[0].removeprefix("spec.")
    if not _HANDLE.fullmatch(handle):
        raise InvalidImageName(handles[0], "a handle has 12 to 64 hex digits, as condery build prints them")
    return handle


def parse_specs(
    specs: Sequence[str],
    settings: NameSettings,
    *,
    channels: Sequence[str] = (),
    until: datetime.date | None = None,
) -> EnvironmentSpec:
    """Parse what is typed on a command line: items as in image names, conda match specs, or a mixture.

    `channels` have priority over the defaults. Raises InvalidImageName.
    """
    asked: list[Wish] = [Channel(check_channel(channel, channel)) for channel in channels]
    for text in specs:
        asked += _parse_typed(text, settings)
    return replace(_make_spec(asked, settings, item=" ".join(specs)), until=until)


def _parse_typed(text: str, settings: NameSettings) -> list[Wish]:
    """Parse items, or one match spec. Raises InvalidImageName."""
    if text.lower().startswith(MATCH_SPEC):
        return [_parse_requirement(text)]
    items = text.lower().split("/")
    if all(REPOSITORY_PART.fullmatch(item) for item in items):
        found = _select(items, settings)
        # match specs may have capitals, if both grammars read the text as the same package
        if text != text.lower() and found != [parse_match_spec(text)]:
            raise InvalidImageName(text, "items are written in lower case", text.lower())
        return found
    try:
        return [parse_match_spec(text)]
    except InvalidImageName as error:
        raise InvalidImageName(error.item, error.reason, error.suggestion or spell(text)) from None


def _parse_requirement(text: str) -> Pypi:
    try:
        return Pypi(canonicalize(text[len(MATCH_SPEC) :]))
    except InvalidRequirement:
        raise InvalidImageName(text, f"after {MATCH_SPEC} comes a requirement such as requests>=2 (PEP 508)") from None


def write_repository(spec: EnvironmentSpec, settings: NameSettings) -> str:
    """Write the canonical name of `spec`. `parse` turns it back into `spec`, if the tag gives its cut-off date.

    A spec that no name of at most 255 characters expresses is named by its handle, for which `parse` needs the stored
    spec.
    """
    packages = [*map(write_item, spec.items), *map(write_requirement, spec.requirements)]
    platforms = [f"platform.{platform}" for platform in spec.platforms]
    if not spec.single and spec.platforms == _choose_platforms(settings):
        platforms = []
    cuda = [f"cuda.{version}" for name, version in spec.virtual_packages if name == "__cuda"]
    for explicit in range(len(spec.channels) + 1):
        channels = [f"channel.{channel}" for channel in spec.channels[:explicit]]
        repository = "/".join([settings.root, *channels, *platforms, *cuda, *packages])
        if _mentions(repository, spec, settings):
            return repository
    # the stored spec is the lock's, which has no cut-off date
    return f"{settings.root}/spec.{replace(spec, until=None).key[:HANDLE_DIGITS]}"


def find_close_names(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Find names like `name` among `known`, the closest first: what was probably meant.

    Some 30,000 names take 30 ms.
    """
    pairs = {first + second for first, second in pairwise(name)}
    slack = max(2, len(name) // 3)
    shared = (
        (2 * sum([pair in other for pair in pairs]) - abs(len(other) - len(name)), other)
        for other in known
        if abs(len(other) - len(name)) <= slack and other != name
    )
    return difflib.get_close_matches(name, [other for _, other in nlargest(200, shared)], n=limit, cutoff=0.7)


def _split_items(repository: str, settings: NameSettings) -> list[str]:
    """Split a name into the items after the root, each a component that the distribution specification allows."""
    if len(repository) > MAX_NAME:
        raise InvalidImageName(
            f"{repository[:40]}...",
            f"the name has {len(repository)} characters; at most {MAX_NAME} are allowed; "
            "condery build accepts longer ones and prints a handle to pull instead",
        )
    root, rest = repository[: len(settings.root)], repository[len(settings.root) :]
    if root != settings.root or rest[:1] not in {"", "/"}:
        raise InvalidImageName(repository, f"images on demand are under {settings.root}/")
    items = rest[1:].split("/")
    if items == [""]:
        raise InvalidImageName(repository, "the name has no packages", f"{settings.root}/python")
    for item in items:
        _check_component(item, repository)
    return items


def _check_component(item: str, repository: str) -> None:
    if REPOSITORY_PART.fullmatch(item):
        return
    if not item:
        raise InvalidImageName(repository, "an item is empty: the name has two slashes in a row, or one at the end")
    raise InvalidImageName(
        item, "an item has lower-case letters and digits, with single . or _, or __ or -, between them", spell(item)
    )


def _select(items: Sequence[str], settings: NameSettings) -> list[Wish]:
    return [wish for item in items for wish in parse_items(item, settings.shell_packages)]


def _choose_platforms(settings: NameSettings) -> tuple[str, ...]:
    return tuple(sorted(set(settings.platforms)))


def _make_spec(asked: Sequence[Wish], settings: NameSettings, *, item: str) -> EnvironmentSpec:
    """Combine wishes into a canonical spec. Errors name `item` if they make no environment."""
    items = merge_items(_filter(asked, PackageItem))
    requirements = merge_requirements(wish.requirement for wish in _filter(asked, Pypi))
    if requirements and not items:
        raise InvalidImageName(item, "packages of PyPI need python in the environment; add the item python")
    if not items:
        raise InvalidImageName(item, "it requests no packages; add one, such as python")
    if (count := len(items) + len(requirements)) > MAX_ITEMS:
        raise InvalidImageName(item, f"it requests {count} packages; at most {MAX_ITEMS} are allowed")
    cuda = sorted({wish.version for wish in _filter(asked, Cuda)})
    if len(cuda) > 1:
        raise InvalidImageName(item, f"a machine has one version of CUDA, but the name has {' and '.join(cuda)}")
    platforms = tuple(sorted({wish.name for wish in _filter(asked, Platform)}))
    explicit = [wish.name for wish in _filter(asked, Channel)]
    return EnvironmentSpec(
        items=items,
        channels=_choose_channels(explicit, settings.channels, items),
        platforms=platforms or _choose_platforms(settings),
        single=len(platforms) == 1,
        virtual_packages=tuple(("__cuda", version) for version in cuda),
        prefix=settings.prefix,
        requirements=requirements,
    )


def _filter(asked: Iterable[Wish], kind: type[_W]) -> list[_W]:
    return [wish for wish in asked if isinstance(wish, kind)]


def _choose_channels(explicit: Sequence[str], defaults: Sequence[str], items: Sequence[PackageItem]) -> tuple[str, ...]:
    """Return channels in order of priority, each once.

    A channel that only an item names comes last: it provides the item, and those dependencies that no other channel
    has, but never displaces the packages of a default channel.
    """
    return tuple(dict.fromkeys([*explicit, *defaults, *sorted({item.channel for item in items if item.channel})]))


def _parse_reference(tag: str, today: datetime.date, repository: str) -> Reference:
    if tag == "latest":
        return Latest()
    if _DAY.fullmatch(tag):
        return UntilDate(_parse_day(tag, today))
    digits = tag.removeprefix("lock-")
    if digits != tag:
        if not _HANDLE.fullmatch(digits):
            raise InvalidImageName(tag, "lock- takes 12 to 64 hex digits; every image has its own in a label")
        return LockReference(digits)
    if _VERSION.fullmatch(tag) and "." not in repository and repository.count("/") == 1:
        operator = "eq" if tag.count(".") > 1 else "like"
        raise InvalidImageName(tag, f"no such tag: {TAGS}; for that version: {repository}.{operator}.{tag}")
    raise InvalidImageName(tag, f"no such tag: {TAGS}", "latest" if find_close_names(tag, ["latest"]) else None)


def _parse_day(tag: str, today: datetime.date) -> datetime.date:
    try:
        day = datetime.date.fromisoformat(tag)
    except ValueError as error:
        raise InvalidImageName(tag, "no such day exists") from error
    if day > today:
        raise InvalidImageName(tag, f"this day is in the future; today is {today}, UTC", "latest")
    return day


def _mentions(repository: str, spec: EnvironmentSpec, settings: NameSettings) -> bool:
    try:
        items = _split_items(repository, settings)
        return _make_spec(_select(items, settings), settings, item=repository) == replace(spec, until=None, owner="")
    except InvalidImageName:
        return False
