"""Dry solves: POST solve/ with all that a build would change, and conda-store's GET specification/."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web

from auth.permission import Permission
from builder.artifacts.artifact import choose_platform
from builder.channels.channel import resolve_address
from builder.environments.difference import Change, Difference
from builder.environments.previews import Preview
from builder.locks.lock import Lock, LockedPackage
from builder.search.package import make_id
from registry.access.rights import Found, check_anywhere
from registry.answers import UNSTORED_JSON
from registry.api.documents import answer_aside
from registry.api.environments.finding import named_of
from registry.api.environments.specification import Sent, read_specification
from registry.api.queries import check_parameters, read_words
from registry.kinds.extended import check_extended
from registry.kinds.refused import refusing_specification
from registry.observer import PRINCIPAL
from registry.parts import PARTS
from registry.rates import caller_of, count_request

SOLVE = Permission.ENVIRONMENT_SOLVE
PARAMETERS = ("channel", "channels", "conda", "pip")
_MOST_VALUES = 500
_LONGEST = 1000


async def find_plan(request: web.Request) -> Found[Sent]:
    """What the body has, and the environment, or the whole namespace, that it is about."""
    check_anywhere(request, (SOLVE,), "solve environments")
    sent = await read_specification(request, SOLVE, needs_name=False)
    return Found(sent.repository, sent, is_counted=True)


async def post_solve(request: web.Request, sent: Sent) -> web.StreamResponse:
    """Nothing is built or recorded. The current build that it is compared with is told to whoever may read it."""
    await check_extended(request, sent.wanted.extends)
    may_read = request.app[PARTS].access.may(request[PRINCIPAL], Permission.ENVIRONMENT_READ, sent.repository)
    with refusing_specification():
        preview = await named_of(request).previews.make(
            sent.namespace, sent.name, sent.wanted, caller_of(request), compared=may_read
        )
    return await answer_aside(lambda: write_plan(preview))


async def solve_specification(request: web.Request) -> web.StreamResponse:
    """By the rules of the server and of all environments, as no namespace is named, and with nobody's credentials."""
    check_anywhere(request, (SOLVE,), "solve environments")
    # a solve takes as long as many a build, and is as little for a page of another site to ask for
    request.app[PARTS].authentication.check_wish(request, request[PRINCIPAL])
    count_request(request)
    text = json.dumps(_read_query(request))
    named = named_of(request)
    with refusing_specification():
        wanted = await named.wanted.read(text.encode(), named.builder.pool, "")
        lock = await named.previews.solve("", "", wanted, caller_of(request))
    alias = named.builder.settings.channel_alias
    rows = [_write_solved(package, alias) for package in lock.packages[choose_platform(lock)]]
    return web.Response(body=orjson.dumps({"status": "ok", "solve": rows}), headers=UNSTORED_JSON)


def _read_query(request: web.Request) -> Mapping[str, Any]:
    """An environment file of what conda-store's command line sends. Raises PageInvalid."""
    check_parameters(request, PARAMETERS, dict.fromkeys(PARAMETERS, _MOST_VALUES), _LONGEST)
    dependencies: list[Any] = list(read_words(request, "conda"))
    if pip := list(read_words(request, "pip")):
        dependencies.append({"pip": pip})
    channels = [*read_words(request, "channel"), *read_words(request, "channels")]
    return {"name": "solve", "channels": channels, "dependencies": dependencies}


def _write_solved(package: LockedPackage, alias: str) -> dict[str, Any]:
    return {
        "name": package.name,
        "version": package.version,
        "channel_id": make_id(resolve_address(package.channel, alias)),
        "size": package.size or 0,
    }


def write_plan(preview: Preview) -> dict[str, Any]:
    return {
        "lock": preview.lock.key,
        "platforms": {platform: _write_platform(each) for platform, each in preview.lock.packages.items()},
        "against": preview.against.id if preview.against else None,
        "difference": write_differences(preview.difference),
        "cached": _write_cached(preview),
    }


def _write_platform(packages: Sequence[LockedPackage]) -> dict[str, Any]:
    return {"packages": [write_package(each) for each in packages], "size": _sum(packages)}


def _write_cached(preview: Preview) -> dict[str, Any]:
    there = [each for each in _unique(preview.lock) if each.archive_key in preview.cached.archives]
    return {
        "archives": len(there),
        "archives_size": _sum(there),
        "fragments": len(preview.cached.fragments),
        "image": preview.cached.image,
    }


def _unique(lock: Lock) -> Sequence[LockedPackage]:
    packages = [each for some in lock.packages.values() for each in some if each.sha256 or each.md5]
    return list({each.archive_key: each for each in packages}.values())


def _sum(packages: Sequence[LockedPackage]) -> int:
    return sum(each.size or 0 for each in packages)


def write_differences(differences: Mapping[str, Difference]) -> dict[str, Any]:
    return {platform: _write_difference(each) for platform, each in differences.items()}


def _write_difference(difference: Difference) -> dict[str, Any]:
    return {
        "added": [write_package(each) for each in difference.added],
        "removed": [write_package(each) for each in difference.removed],
        "up": [_write_change(each) for each in difference.up],
        "down": [_write_change(each) for each in difference.down],
        "other": [_write_change(each) for each in difference.other],
        "size": difference.size,
        "download": difference.download,
    }


def _write_change(change: Change) -> dict[str, Any]:
    before, after = write_package(change.before), write_package(change.after)
    return {"name": change.after.name, "before": before, "after": after}


def write_package(package: LockedPackage) -> dict[str, Any]:
    names = ("name", "version", "build", "subdir", "channel", "url", "sha256", "license", "size")
    return {name: getattr(package, name) for name in names}
