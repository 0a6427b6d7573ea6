"""Which files of indexes a solve may see, and where uv finds what of them.

uv asks for `http://KEY.index.invalid/simple/NAME/`, which only the gateway answers. The key holds all that decides what
may be seen, so that what uv remembers of one view is never seen in another: indexes, rules, days and credentials.
"""

from __future__ import annotations

import base64
import datetime
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.utils import InvalidWheelFilename, canonicalize_name

from builder.canonical import make_key
from builder.channels.index_policy import find_link_problem
from builder.locks.lock import WHEEL_PREFIX
from builder.names.wheel_name import parse_wheel_name
from builder.policy.denial import Candidate
from builder.policy.policy import NO_POLICY, Policy
from builder.pypi.page import IndexFile, IndexPage

VIEW_FORMAT = 2
"""Part of every view's key: raise it when the same pages must be shown otherwise."""

HOUR = 3600

SOURCES = "are source code, which is not built here"
YANKED = "were yanked by their authors"

_LINK = re.compile(
    r"/file/(?P<index>[0-9]{1,3})/(?P<sha256>[0-9a-f]{64})/(?P<metadata>[0-9a-f]{64}|given|none)"
    r"/(?P<url>[A-Za-z0-9_-]{1,8000}={0,2})/(?P<name>[^/]+)"
)


@dataclass(frozen=True)
class Link:
    """A wheel's address as uv sees it, which holds all that has to be known to fetch it."""

    index: int
    sha256: str
    metadata: str | None
    """As `IndexFile.metadata`."""
    url: str

    def write(self) -> str:
        # encoded, since uv resolves dots in a path: an index could write a link that becomes one of another index
        url = base64.urlsafe_b64encode(self.url.encode()).decode()
        metadata = "none" if self.metadata is None else self.metadata or "given"
        return f"/file/{self.index}/{self.sha256}/{metadata}/{url}/{self.url.rpartition('/')[2]}"

    @classmethod
    def parse(cls, path: str) -> Link | None:
        found = _LINK.fullmatch(path)
        if found is None:
            return None
        metadata = {"none": None, "given": ""}.get(found["metadata"], found["metadata"])
        try:
            url = base64.urlsafe_b64decode(found["url"]).decode("ascii")
        except ValueError:
            return None
        return cls(int(found["index"]), found["sha256"], metadata, url)


@dataclass(frozen=True)
class Shown:
    """What uv is shown of a package, and how many of its files it is not shown, by reason."""

    document: Mapping[str, Any]
    dropped: Mapping[str, int]
    versions: tuple[str, ...]
    """Of all wheels that are shown."""


@dataclass(frozen=True)
class View:
    """`until` is the last moment (UNIX seconds) of uploads, `at` the one to which rules count ages."""

    indexes: tuple[str, ...]
    policy: Policy = NO_POLICY
    until: float | None = None
    at: float = 0
    logins: str = ""
    """The key of the credentials that indexes are shown."""
    without: frozenset[tuple[str, str]] = field(default_factory=frozenset)
    """Names and versions that turned out to be denied."""
    hashes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """As `EnvironmentSpec.hashes`."""

    @cached_property
    def key(self) -> str:
        at = self.at // HOUR * HOUR if self.policy.counts_days else 0
        return make_key(
            "pypi view",
            [
                VIEW_FORMAT,
                self.indexes,
                self.policy.key,
                self.until,
                at,
                self.logins,
                sorted(self.without),
                self.hashes,
            ],
        )[:40]

    @property
    def url(self) -> str:
        """The index's address for uv."""
        return f"http://{self.host}/simple"

    @property
    def host(self) -> str:
        return f"{self.key}.index.invalid"

    def show(self, name: str, page: IndexPage) -> Shown:
        """Write what uv is shown of the package `name` (PEP 503)."""
        number = self.indexes.index(page.index)
        files, dropped, versions = [], Counter[str](), dict[str, None]()
        if page.unusable:
            dropped["are not described as they must be"] = page.unusable
        for file in page.files:
            problem, version = self._find_problem(name, page.index, file)
            if problem:
                dropped[problem] += 1
            else:
                files.append(self._write(number, file))
                versions[version] = None
        document = {"meta": {"api-version": "1.1"}, "name": name, "versions": list(versions), "files": files}
        return Shown(document, dropped, tuple(versions))

    def _find_problem(self, name: str, index: str, file: IndexFile) -> tuple[str | None, str]:
        """Why a file is not shown, as what several of its kind are or have, and its version."""
        if not file.name.endswith(".whl"):
            return SOURCES, ""
        try:
            distribution, parsed, _, _ = parse_wheel_name(file.name)
        except InvalidWheelFilename:
            return "have names that no wheel has", ""
        version = str(parsed)
        if canonicalize_name(distribution) != name or unquote(urlsplit(file.url).path.rpartition("/")[2]) != file.name:
            return "belong to another package, or version, by their names", version
        if not file.sha256:
            return "have no sha256 in the index", version
        if problem := find_link_problem(index, file.url):
            return f"cannot be fetched ({problem})", version
        if self.hashes and file.sha256 not in self._allowed.get(name, ()):
            return "are not in the lock", version
        if file.yanked is not None and not self.hashes:
            return YANKED, version
        return self._find_age_problem(file) or self._find_refusal(name, version, index, file), version

    @cached_property
    def _allowed(self) -> Mapping[str, tuple[str, ...]]:
        return dict(self.hashes)

    def _find_age_problem(self, file: IndexFile) -> str | None:
        if self.until is None or (file.uploaded is not None and file.uploaded / 1000 <= self.until):
            return None
        day = datetime.datetime.fromtimestamp(self.until, datetime.UTC)
        when = "have no upload time in the index" if file.uploaded is None else "are newer than that"
        return f"{when} (what is asked for is as of {day:%Y-%m-%d})"

    def _find_refusal(self, name: str, version: str, index: str, file: IndexFile) -> str | None:
        if (name, version) in self.without:
            return "are denied"
        candidate = Candidate(f"{WHEEL_PREFIX}{name}", version, "", f"{index}/", None, file.uploaded)
        refusal = self.policy.find_refusal(candidate, self.at, licensed=False)
        return f"are not allowed: {version} {refusal}" if refusal else None

    def _write(self, number: int, file: IndexFile) -> dict[str, Any]:
        # uv takes the name of a wheel from the end of its address
        link = Link(number, file.sha256, file.metadata, file.url).write()
        document: dict[str, Any] = {
            "filename": file.name,
            "url": f"http://{self.host}{link}",
            "hashes": {"sha256": file.sha256},
            "core-metadata": True,
        }
        if file.size is not None:
            document["size"] = file.size
        if file.uploaded is not None:
            moment = datetime.datetime.fromtimestamp(file.uploaded / 1000, datetime.UTC)
            document["upload-time"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        if file.requires_python is not None:
            document["requires-python"] = file.requires_python
        return document
