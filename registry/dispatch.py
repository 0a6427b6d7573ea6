"""From a request to the row of the route table that answers it, if whoever asks may have it answered.

A row without a permission is refused when the server starts, and so is one whose permission nobody would check.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler

from auth.permission import PUBLIC, Permission, Public
from registry.answers import Form
from registry.errors import Denied, MethodUnsupported
from registry.http.references import Endpoint, Target
from registry.kinds.kind import KIND, KINDS, RepositoryKind
from registry.observer import PRINCIPAL
from registry.parts import PARTS, Parts
from storage.errors import StorageFull

TargetHandler = Callable[[web.Request, Target], Awaitable[web.StreamResponse]]

READ_METHODS = ("GET", "HEAD")


class RoutesInvalid(ValueError):
    """The route table itself is wrong, so the server does not start."""


@dataclass(frozen=True)
class Route:
    """A row whose path names no repository.

    With a permission, the handler shows only what that is granted on, and `lists` says so. With `spare` it also answers
    on connections beyond the bound.
    """

    methods: tuple[str, ...]
    path: str
    permission: Permission | Public | None
    handler: Handler
    form: Form
    summary: str
    endpoint: Endpoint | None = None
    lists: bool = False
    spare: bool = False


@dataclass(frozen=True)
class RepositoryRoute:
    """A row whose path names a repository, on which `permission` has to be granted before the handler is called."""

    methods: tuple[str, ...]
    path: str
    permission: Permission | None
    handler: TargetHandler
    form: Form
    summary: str
    endpoint: Endpoint
    spare: bool = False


Row = Route | RepositoryRoute


def check_routes(rows: Iterable[Row]) -> None:
    """Raises RoutesInvalid for a row that is open by mistake, or that stands there twice."""
    seen: set[tuple[str, str]] = set()
    for row in rows:
        for method in row.methods:
            name = f"{method} {row.path}"
            if row.permission is None:
                raise RoutesInvalid(f"{name} has no permission; name one of auth.permission.Permission, or PUBLIC")
            if not isinstance(row.permission, Permission) and (row.permission is not PUBLIC or _is_of_repository(row)):
                raise RoutesInvalid(f"{name} cannot have the permission {row.permission!r}")
            if isinstance(row, Route) and row.permission is not PUBLIC and not row.lists:
                raise RoutesInvalid(f"nothing checks that {row.permission} is granted to who asks for {name}")
            if (method, row.path) in seen:
                raise RoutesInvalid(f"{name} stands in the table twice")
            seen.add((method, row.path))


def _is_of_repository(row: Row) -> bool:
    return isinstance(row, RepositoryRoute)


def dispatch_path(rows: Sequence[Row]) -> Handler:
    """Who answers one path: the rows differ by method."""
    handlers = {method: row.handler for row in rows if isinstance(row, Route) for method in row.methods}

    async def answer(request: web.Request) -> web.StreamResponse:
        handler = handlers.get(request.method)
        if handler is None:
            raise MethodUnsupported(request.method, ", ".join(handlers))
        return await handler(request)

    return answer


def dispatch_folder(rows: Sequence[Row], parse: Callable[[str], Target]) -> Handler:
    """Who answers all paths below a folder, whose targets `parse` reads: the rows differ by endpoint and method."""
    handlers: dict[Endpoint, dict[str, TargetHandler]] = {}
    for row in rows:
        assert row.endpoint is not None, "below a folder each row has one"
        handler = _guard(row) if isinstance(row, RepositoryRoute) else _ignore_target(row.handler)
        handlers.setdefault(row.endpoint, {}).update(dict.fromkeys(row.methods, handler))

    # this and the other plain functions that return what is to be awaited save every pull a coroutine each
    def answer(request: web.Request) -> Awaitable[web.StreamResponse]:
        target = parse(request.rel_url.raw_path)
        methods = handlers[target.endpoint]
        handler = methods.get(request.method)
        if handler is None:
            raise MethodUnsupported(request.method, ", ".join(methods))
        return handler(request, target)

    return answer


def _ignore_target(handler: Handler) -> TargetHandler:
    return lambda request, _target: handler(request)


def _guard(row: RepositoryRoute) -> TargetHandler:
    """The row's handler, called when what it needs is granted. Only here it is asked of which kind a repository is."""
    permission = row.permission
    assert permission is not None, "the table was checked"
    handler = _with_reserve(row.handler) if "DELETE" in row.methods else row.handler
    # a session is the pusher's own, whatever is done with it
    writes = permission is not Permission.ENVIRONMENT_READ
    changes = not set(row.methods) & set(READ_METHODS)

    async def answer(request: web.Request, target: Target) -> web.StreamResponse:
        app, repository = request.app, target.repository
        parts = app[PARTS]
        kind = request[KIND] = app[KINDS].of(repository)
        if changes and "Origin" in request.headers:
            raise Denied("web pages may read this registry, not write to it")
        if writes:
            _check_writable(parts, kind, repository)
        need = kind.needs(permission, repository)
        if not parts.access.may(request[PRINCIPAL], need.permission, need.entity):
            raise Denied(f"{need.permission} on {need.entity} is not granted to you")
        response = await handler(request, target)
        if changes and parts.notifier is not None:
            parts.notifier.changed()
        return response

    return answer


def _check_writable(parts: Parts, kind: RepositoryKind, repository: str) -> None:
    """Raises Denied for what nobody may write to."""
    refusal = kind.refusal(repository)
    if refusal is not None:
        raise Denied(refusal)
    if parts.read_only:
        raise Denied("this registry is read-only now; its administrator has switched off pushing and deleting")


def _with_reserve(handler: TargetHandler) -> TargetHandler:
    """What a deletion has to write has room also on a full disk: what is kept for it is spent, and it is done again."""

    async def delete(request: web.Request, target: Target) -> web.StreamResponse:
        try:
            return await handler(request, target)
        except StorageFull:
            reserve = request.app[PARTS].reserve
            if reserve is None or not await asyncio.to_thread(reserve.spend):
                raise
            return await handler(request, target)

    return delete
