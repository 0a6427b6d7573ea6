"""All paths below a folder, for one handler that reads them itself.

aiohttp's own resource for this matches each path with a regular expression and decodes what it found, which costs a
request as much as checking its sender's rights does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from yarl import URL

from registry.http.intake import leave_to_reader


class Folder(web.AbstractResource):
    """The resource of every path that begins with `beginning`, which ends with a slash; for every method."""

    def __init__(self, beginning: str, handler: Handler) -> None:
        super().__init__()
        self._beginning = beginning
        self._route = web.ResourceRoute("*", handler, self, expect_handler=leave_to_reader)
        self._methods = {"*"}

    @property
    def canonical(self) -> str:
        # aiohttp's router looks for a resource under what is before the brace
        return f"{self._beginning}{{path}}"

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        if request.rel_url.path_safe.startswith(self._beginning):
            return web.UrlMappingMatchInfo({}, self._route), self._methods
        return None, set()

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[web.AbstractRoute]:
        return iter((self._route,))

    def url_for(self, **parts: str) -> URL:
        return URL.build(path=self._beginning + parts["path"])

    def add_prefix(self, prefix: str) -> None:
        raise NotImplementedError("an application with folders is no part of another")

    def get_info(self) -> Any:
        return {"prefix": self._beginning}

    def raw_match(self, path: str) -> bool:
        return False
