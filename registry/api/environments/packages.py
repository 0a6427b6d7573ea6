"""GET build/{id}/packages: what the lock of a build has for one platform."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from aiohttp import web

from builder.channels.channel import resolve_address
from builder.errors import ChannelUnavailable
from builder.search.package import make_id
from registry.answers import UNSTORED_JSON
from registry.api.documents import read_paging, read_sorting
from registry.api.environments.queries import PAGING
from registry.api.queries import check_parameters, read_word
from registry.errors import PageInvalid
from registry.parts import PARTS
from storage.environments.vocabulary import EnvironmentBuild

SORTS = ("name", "channel", "version")
FILTERS = ("search", "exact", "build", "platform")
_FLAGS = {None: False, "false": False, "true": True, "0": False, "1": True}
_COLUMNS = ("name", "version", "build", "build_number", "subdir", "license", "size", "timestamp", "sha256", "md5")

Wanted = Callable[[Mapping[str, Any]], bool]


async def list_packages(request: web.Request, build: EnvironmentBuild) -> web.StreamResponse:
    """Of the first platform, unless another one is asked for. There are none before it is solved."""
    check_parameters(request, (*FILTERS, *PAGING))
    by, backwards = read_sorting(request, SORTS)
    paging, wanted, platform = read_paging(request), _read_wanted(request), read_word(request, "platform")
    parts = request.app[PARTS]
    text = await parts.stored_environments.builds.find_lock_text(build.lock_key) if build.lock_key else None
    alias = parts.environments.channels.alias if parts.environments else ""

    def write() -> bytes:
        document = json.loads(text) if text is not None else {"packages": {}}
        rows = _list(document["packages"], platform, alias, wanted)
        rows.sort(key=lambda row: (row["channel"]["name"] if by == "channel" else row[by or "name"], row["name"]))
        rows = rows[::-1] if backwards else rows
        page, size = paging if paging is not None else (1, len(rows))
        shown = rows[(page - 1) * size : page * size]
        return orjson.dumps({"status": "ok", "page": page, "size": size, "count": len(rows), "data": shown})

    # hundreds of packages, each with all its dependencies
    return web.Response(body=await asyncio.to_thread(write), headers=UNSTORED_JSON)


def _list(packages: Mapping[str, Any], platform: str | None, alias: str, wanted: Wanted) -> list[dict[str, Any]]:
    chosen = platform if platform is not None else next(iter(packages), "")
    if packages and chosen not in packages:
        raise PageInvalid("platform", chosen, f"expected one of {', '.join(packages)}")
    return [_write(each, alias) for each in packages.get(chosen, ()) if wanted(each)]


def _write(package: Mapping[str, Any], alias: str) -> dict[str, Any]:
    channel = package["channel"]
    try:
        url = resolve_address(channel, alias)
    except ChannelUnavailable:
        url = channel
    return {
        # as a search shows them
        "id": make_id(url, package["subdir"], package["file_name"]),
        "channel": {"id": make_id(url), "name": channel, "last_update": None},
        "summary": "",
        **{name: package[name] for name in _COLUMNS},
        "depends": len(package["depends"]),
    }


def _read_wanted(request: web.Request) -> Wanted:
    search, build = (read_word(request, "search") or "").lower(), (read_word(request, "build") or "").lower()
    text = read_word(request, "exact")
    if text not in _FLAGS:
        raise PageInvalid("exact", text or "", "expected true or false")
    is_exact = _FLAGS[text]

    def wanted(package: Mapping[str, Any]) -> bool:
        name: str = package["name"]
        is_found = name == search if is_exact and search else search in name
        return is_found and build in package["build"].lower()

    return wanted
