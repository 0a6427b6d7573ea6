"""GET / and usage/: which version this is, and how much of it is used."""

from __future__ import annotations

from importlib.metadata import version

from aiohttp import web

from auth.permission import Permission
from registry.api.documents import answer_data
from registry.observer import PRINCIPAL
from registry.parts import PARTS

VERSION = version("condery")


async def get_version(_request: web.Request) -> web.StreamResponse:
    return answer_data({"version": VERSION})


async def get_usage(request: web.Request) -> web.StreamResponse:
    """Of the namespaces that the sender may read. `storage` is bytes of packages, of each lock once."""
    parts, principal = request.app[PARTS], request[PRINCIPAL]
    usage = await parts.stored_environments.builds.sum_usage()
    sees_all = parts.access.may_everywhere(principal, Permission.NAMESPACE_READ)
    shown = {
        each.namespace: {"num_environments": each.environments, "num_builds": each.builds, "storage": each.size}
        for each in usage
        if sees_all or parts.access.may(principal, Permission.NAMESPACE_READ, each.namespace)
    }
    return answer_data(shown)
