"""From a path and a method below /v2 to who answers it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from auth.access import Action
from registry.errors import Denied, MethodUnsupported
from registry.http.references import Kind, Target, parse_path
from registry.mirror.names import is_mirror
from registry.parts import PARTS, principal_of
from registry.v2 import blobs, lists, manifests, mirrored, uploads
from storage.errors import StorageFull

Handler = Callable[[web.Request, Target], Awaitable[web.StreamResponse]]

_HANDLERS: dict[Kind, dict[str, Handler]] = {
    "base": {"GET": lists.get_base},
    "catalog": {"GET": lists.get_catalog},
    "tags": {"GET": lists.get_tags},
    "referrers": {"GET": lists.get_referrers},
    "manifests": {"GET": manifests.get_manifest, "PUT": manifests.put_manifest, "DELETE": manifests.delete_manifest},
    "blobs": {"GET": blobs.get_blob, "DELETE": blobs.delete_blob},
    "uploads": {"POST": uploads.open_upload},
    "upload": {
        "GET": uploads.get_upload,
        "PATCH": uploads.append_to_upload,
        "PUT": uploads.finish_upload,
        "DELETE": uploads.cancel_upload,
    },
}

_MIRRORED: dict[Kind, Handler] = {
    "tags": mirrored.get_tags,
    "referrers": mirrored.get_referrers,
    "manifests": mirrored.get_manifest,
    "blobs": mirrored.get_blob,
}
"""Of reading copies of other registries' repositories; they cannot be written to."""

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_NO_HEAD = frozenset({"uploads", "upload"})
_ACTIONS: dict[str, Action] = {"GET": "pull", "DELETE": "delete"}
"""Of methods; all others push. A session is the pusher's own, whatever is done with it."""


async def dispatch(request: web.Request) -> web.StreamResponse:
    """Everything below /v2."""
    target = parse_path(request.rel_url.raw_path)
    handlers = _HANDLERS[target.kind]
    method = "GET" if request.method == "HEAD" and target.kind not in _NO_HEAD else request.method
    handler = handlers.get(method)
    if handler is None:
        raise MethodUnsupported(request.method, _allowed(target.kind))
    if target.repository:
        _check_access(request, method, target)
        if is_mirror(target.repository):
            handler = _MIRRORED[target.kind]
    answer = await (_delete(request, target, handler) if method == "DELETE" else handler(request, target))
    if method != "GET" and (notifier := request.app[PARTS].notifier) is not None:
        notifier.changed()
    return answer


async def _delete(request: web.Request, target: Target, handler: Handler) -> web.StreamResponse:
    """What a deletion has to write has room also on a full disk: what is kept for it is spent, and it is done again."""
    try:
        return await handler(request, target)
    except StorageFull:
        reserve = request.app[PARTS].reserve
        if reserve is None or not await asyncio.to_thread(reserve.spend):
            raise
        return await handler(request, target)


def _allowed(kind: Kind) -> str:
    methods = list(_HANDLERS[kind])
    if "GET" in methods and kind not in _NO_HEAD:
        methods.insert(1, "HEAD")
    return ", ".join(methods)


def _check_access(request: web.Request, method: str, target: Target) -> None:
    """Raises Denied."""
    parts = request.app[PARTS]
    if request.method not in _READING and "Origin" in request.headers:
        raise Denied("web pages may read this registry, not write to it")
    action = "push" if target.kind in _NO_HEAD else _ACTIONS.get(method, "push")
    if action != "pull":
        if parts.demand.owns(target.repository):
            raise Denied(f"{target.repository} is made from its name; nothing can be pushed to it or deleted from it")
        if is_mirror(target.repository):
            raise Denied(f"{target.repository} is kept for a copy of another registry's; push to that, or delete there")
        if parts.read_only:
            raise Denied("this registry is read-only now; its administrator has switched off pushing and deleting")
    if not parts.access.may(principal_of(request), action, target.repository):
        raise Denied(f"you may not {action} {target.repository}")
