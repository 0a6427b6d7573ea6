"""What an index says of one package: the JSON of PEP 691 and 700, or the HTML of PEP 503.

All of it was written by others. So every value is checked for its type and length, and what does not fit is as if it
were not there: of one bad file the others are still good.
"""

from __future__ import annotations

import datetime
import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from builder.packages.bounded_json import JsonRefused, load

JSON = "application/vnd.pypi.simple.v1+json"
ACCEPT = f"{JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"

MOST_FILES = 50_000
_VALUES_OF_A_FILE = 25
_LONGEST_NAME = 250
_LONGEST_URL = 2000
_LONGEST_TEXT = 500

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*")


_YEARS = range(1990, 2200)
"""Of uploads. At the ends of the calendar other time zones are out of it."""


class PageRefused(ValueError):
    """The text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class IndexFile:
    """A file of a package. `url` is absolute, `sha256` is empty where the index gives none."""

    name: str
    url: str
    sha256: str
    size: int | None
    uploaded: int | None
    """Milliseconds UTC."""
    requires_python: str | None
    yanked: str | None
    """Why, if it was; possibly empty."""
    metadata: str | None
    """The sha256 of its metadata beside it (PEP 658, 714), empty if it is there without one; None if it is not."""


@dataclass(frozen=True)
class IndexPage:
    """The files of one package, in the index's order, and how many there are that cannot be used."""

    index: str
    files: tuple[IndexFile, ...]
    unusable: int = 0


def read_page(index: str, url: str, kind: str, content: bytes) -> IndexPage:
    """Read the answer of `index` at `url`; `kind` is its content type. Raises PageRefused."""
    kind = kind.partition(";")[0].strip().lower()
    if kind == JSON:
        found = list(_read_json(url, content))
    elif kind in ("text/html", "application/vnd.pypi.simple.v1+html"):
        found = list(_read_html(url, content))
    else:
        raise PageRefused(f"it is {kind[:60]!r}, and neither {JSON} nor text/html")
    files = tuple(each for each in found if each is not None)
    return IndexPage(index, files, len(found) - len(files))


def _read_json(url: str, content: bytes) -> Iterator[IndexFile | None]:
    try:
        document = load(content, values=MOST_FILES * _VALUES_OF_A_FILE)
    except JsonRefused as error:
        raise PageRefused(f"it {error}") from None
    files = document.get("files") if isinstance(document, dict) else None
    if not isinstance(files, list):
        raise PageRefused("it has no list of files")
    if len(files) > MOST_FILES:
        raise PageRefused(f"it has {len(files)} files; at most {MOST_FILES} are allowed")
    return (_read_file(url, each) for each in files)


def _read_file(url: str, document: Any) -> IndexFile | None:
    if not isinstance(document, dict):
        return None
    name, link = document.get("filename"), document.get("url")
    if not isinstance(name, str) or not isinstance(link, str):
        return None
    hashes = document.get("hashes")
    metadata = document.get("core-metadata", document.get("data-dist-info-metadata"))
    yanked = document.get("yanked")
    return _make_file(
        url,
        name,
        link,
        sha256=_find_hash(hashes) or "",
        size=size if isinstance(size := document.get("size"), int) and 0 <= size < 1 << 40 else None,
        uploaded=_read_time(document.get("upload-time")),
        requires_python=_read_text(document.get("requires-python")),
        yanked=(_read_text(yanked) or "") if yanked not in (False, None) else None,
        metadata=(_find_hash(metadata) or "") if isinstance(metadata, dict) or metadata is True else None,
    )


def _make_file(url: str, name: str, link: str, **facts: Any) -> IndexFile | None:
    if len(name) > _LONGEST_NAME or len(link) > _LONGEST_URL or not _FILE_NAME.fullmatch(name):
        return None
    try:
        address = urljoin(url, link)
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        return None
    if not address.isascii() or not address.isprintable() or " " in address or parts.query:
        return None
    steps = unquote(parts.path).split("/")
    if "\\" in address or "." in steps or ".." in steps:
        return None
    return IndexFile(name, parts._replace(fragment="").geturl(), **facts)


def _find_hash(document: Any) -> str | None:
    found = document.get("sha256") if isinstance(document, Mapping) else None
    return found.lower() if isinstance(found, str) and _SHA256.fullmatch(found.lower()) else None


def _read_text(value: Any) -> str | None:
    return value[:_LONGEST_TEXT] if isinstance(value, str) else None


def _read_time(value: Any) -> int | None:
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        moment = datetime.datetime.fromisoformat(value)
        if moment.year not in _YEARS:
            return None
        return int(moment.replace(tzinfo=moment.tzinfo or datetime.UTC).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def _read_html(url: str, content: bytes) -> Iterator[IndexFile | None]:
    parser = _Links()
    parser.feed(content.decode("utf-8", "replace"))
    parser.close()
    base = urljoin(url, parser.base) if parser.base else url
    return (_read_link(base, each) for each in parser.links)


class _Links(HTMLParser):
    """The attributes of all links, and the address that they are relative to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[dict[str, str]] = []
        self.base = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "base" and not self.links:
            self.base = dict(attrs).get("href") or ""
        elif tag == "a":
            if len(self.links) >= MOST_FILES:
                raise PageRefused(f"it has more than {MOST_FILES} files")
            self.links.append({name: value or "" for name, value in attrs})


def _read_link(url: str, attributes: Mapping[str, str]) -> IndexFile | None:
    link, _, fragment = attributes.get("href", "").partition("#")
    name = unquote(link.rpartition("/")[2])
    kind, _, found = fragment.partition("=")
    metadata = attributes.get("data-core-metadata", attributes.get("data-dist-info-metadata"))
    return _make_file(
        url,
        name,
        link,
        sha256=_find_hash({kind: found}) or "",
        size=None,
        uploaded=None,
        requires_python=_read_text(html.unescape(attributes["data-requires-python"]))
        if "data-requires-python" in attributes
        else None,
        yanked=attributes["data-yanked"][:_LONGEST_TEXT] if "data-yanked" in attributes else None,
        metadata=_read_metadata_attribute(metadata) if metadata is not None else None,
    )


def _read_metadata_attribute(text: str) -> str | None:
    if text == "false":
        return None
    kind, _, found = text.partition("=")
    return _find_hash({kind: found}) or ""
