"""Environments that somebody may have meant by a name that there is not: of those alone that they may read."""

from __future__ import annotations

import asyncio

from aiohttp import web

from auth.permission import Permission
from registry.kinds.kind import is_permitted, need_of
from registry.parts import PARTS
from storage.suggestions import did_you_mean, find_near


async def suggest_environments(request: web.Request, repository: str) -> str:
    """The end of a sentence about a repository that there is not; empty if no environment is near."""
    namespace, slash, _ = repository.partition("/")
    if not slash:
        return ""
    known = await request.app[PARTS].stored_environments.environments.list_like(namespace, repository)
    seen = [each for each in known if is_permitted(request, need_of(Permission.ENVIRONMENT_READ, each))]
    # comparing many takes milliseconds, while others are served
    return did_you_mean(await asyncio.to_thread(find_near, repository, seen, cutoff=0.8))
