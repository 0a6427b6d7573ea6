"""Finds the row of the route table for a request, and checks that the sender has its permission.

The server refuses to start with a row that has no permission, whose permission nothing would check, or that would take
another row's place.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler

from auth.errors import NamespaceUnknown
from auth.permission import PUBLIC, SIGNED_IN, Permission, Public, SignedIn
from registry.access.rights import Found, check_entity, check_found, check_signed_in, check_unscoped, unknown_to
from registry.access.site import check_site
from registry.answers import Form
from registry.contract import Gives, Shape
from registry.errors import Denied, MethodUnsupported, RouteUnknown
from registry.http.references import Endpoint, Target, parse_file_path, parse_path
from registry.kinds.kind import KIND, KINDS, RepositoryKind, check_granted
from registry.observer import PRINCIPAL
from registry.parts import PARTS, Parts
from registry.rates import RATES, count_request
from registry.trail import note_change
from storage.errors import EnvironmentBuildUnknown, EnvironmentUnknown, StorageFull

T = TypeVar("T")

TargetHandler = Callable[[web.Request, Target], Awaitable[web.StreamResponse]]

READ_METHODS = ("GET", "HEAD")

_READS = frozenset(permission for permission in Permission if permission.endswith("::read"))

_FIELD = re.compile(r"\{[^{}]*\}")


class RoutesInvalid(ValueError):
    """The route table itself is wrong, so the server does not start."""


@dataclass(frozen=True)
class Route:
    """A row whose path names no repository.

    If it has a permission, the handler shows only what that is granted on, and `lists` declares this. With `probe` the
    row also answers on connections beyond the bound, and does not count as a request; nor does an `uncounted` one,
    which people sign in with. What is below `/api/` says what it reads and gives (`registry.contract`).
    """

    methods: tuple[str, ...]
    path: str
    permission: Permission | Public | None
    handler: Handler
    form: Form
    summary: str
    endpoint: Endpoint | None = None
    lists: bool = False
    probe: bool = False
    uncounted: bool = False
    query: type[Shape] | None = None
    gives: Gives | None = None


@dataclass(frozen=True)
class RepositoryRoute:
    """A row whose path names a repository; `permission` must be granted on it before the handler is called."""

    methods: tuple[str, ...]
    path: str
    permission: Permission | None
    handler: TargetHandler
    form: Form
    summary: str
    endpoint: Endpoint
    probe: bool = False


@dataclass(frozen=True)
class AccountRoute:
    """A row of the REST API, about an entity or about the sender's own account.

    The handler is called if the sender has been granted `permission` on `entity`, in which `{field}` stands for that
    part of the path. With `SIGNED_IN` the sender has to be signed in, and the handler shows and changes only what is
    theirs. What it reads and gives is described (`registry.contract`).
    """

    methods: tuple[str, ...]
    path: str
    permission: Permission | SignedIn | None
    handler: Handler
    form: Form
    summary: str
    entity: str = ""
    probe: bool = False
    query: type[Shape] | None = None
    body: object = None
    """The type of the JSON that is read; None if a body is not."""
    gives: Gives | None = None


@dataclass(frozen=True)
class EntityRoute(Generic[T]):
    """A row of the REST API about a thing whose entity its path does not say, such as a build with a number.

    `find` finds the thing and its entity. The handler is called with it if the sender has been granted `permission`
    there. To whoever may not even read it, it is as if it was not there: `find` raises EnvironmentUnknown,
    EnvironmentBuildUnknown or NamespaceUnknown then.
    """

    methods: tuple[str, ...]
    path: str
    permission: Permission | None
    find: Callable[[web.Request], Awaitable[Found[T]]]
    handler: Callable[[web.Request, T], Awaitable[web.StreamResponse]]
    form: Form
    summary: str
    entity: str = ""
    """What `find` finds, for the description."""
    probe: bool = False
    query: type[Shape] | None = None
    body: object = None
    gives: Gives | None = None


Row = Route | RepositoryRoute | AccountRoute | EntityRoute[Any]


FOLDERS: Mapping[str, Callable[[str], Target]] = {"/v2/": parse_path, "/files/": parse_file_path}
"""The folders whose paths contain repositories' names. Names may contain words of the API, so a parser reads them."""


def find_folder(path: str) -> str | None:
    """The member of FOLDERS that a row's path is in, with or without its last slash."""
    return next((folder for folder in FOLDERS if f"{path}/".startswith(folder)), None)


def changes_things(row: Row) -> bool:
    """Whether requests for the row may change things; the methods of a row are alike in this."""
    return not set(row.methods) <= set(READ_METHODS)


def is_form(row: Route) -> bool:
    """Whether a page of ours sends requests for it. At the token endpoint a program shows what it has."""
    return row.form == "page" and changes_things(row)


def check_routes(rows: Iterable[Row]) -> None:
    """Raise RoutesInvalid for a row that is open by mistake, is never reached, or duplicates another."""
    seen: dict[tuple[str, str], str] = {}
    for row in rows:
        if changes_things(row) and not set(row.methods).isdisjoint(READ_METHODS):
            raise RoutesInvalid(f"{' '.join(row.methods)} {row.path} reads and may change things; make two rows of it")
        for method in row.methods:
            name = f"{method} {row.path}"
            _check_permission(row, name)
            _check_place(row, name)
            # below a folder a row is found by its endpoint, however its path is written
            key = (method, row.path if find_folder(row.path) is None else f"the endpoint {_endpoint(row)}")
            if key in seen:
                same = "" if seen[key] == row.path else f": {seen[key]} is for the same"
                raise RoutesInvalid(f"{name} is in the table twice{same}")
            seen[key] = row.path


def _endpoint(row: Row) -> Endpoint | None:
    return None if isinstance(row, AccountRoute | EntityRoute) else row.endpoint


def _check_permission(row: Row, name: str) -> None:
    if row.permission is None:
        raise RoutesInvalid(f"{name} has no permission; name one of auth.permission.Permission, or PUBLIC")
    is_public = isinstance(row, Route) and row.permission is PUBLIC
    is_own = isinstance(row, AccountRoute) and row.permission is SIGNED_IN
    if not isinstance(row.permission, Permission) and not is_public and not is_own:
        raise RoutesInvalid(f"{name} cannot have the permission {row.permission!r}")
    if isinstance(row, Route) and not is_public and not row.lists:
        raise RoutesInvalid(f"nothing checks that the sender of {name} has been granted {row.permission}")
    if isinstance(row, AccountRoute):
        _check_entity_of(row, name)
    if changes_things(row):
        if isinstance(row, Route) and row.form not in ("token", "page"):
            raise RoutesInvalid(f"{name} may change things, which is guarded only for repositories, accounts and pages")
        if row.permission in _READS:
            raise RoutesInvalid(f"{name} may change things, but requires only the permission to read")


def _check_entity_of(row: AccountRoute, name: str) -> None:
    if row.permission is SIGNED_IN:
        if row.entity:
            raise RoutesInvalid(f"{name} is about the sender alone, and names the entity {row.entity}")
        return
    if not row.entity:
        raise RoutesInvalid(f"{name} does not say on which entity {row.permission} has to be granted")
    if not set(_FIELD.findall(row.entity)) <= set(_FIELD.findall(row.path)):
        raise RoutesInvalid(f"{name} names {row.entity} as its entity, which its path does not have")


def _check_place(row: Row, name: str) -> None:
    """Raise RoutesInvalid if requests for the row's path would not reach it in the way that its class expects."""
    folder = find_folder(row.path)
    if isinstance(row, AccountRoute | EntityRoute):
        if folder is not None:
            raise RoutesInvalid(f"{name} is below {folder}, so a repository is read from it")
        return
    if folder is None:
        if isinstance(row, RepositoryRoute):
            raise RoutesInvalid(f"{name} is below none of {', '.join(FOLDERS)}, so no repository is read from it")
        return
    try:
        target = FOLDERS[folder](_FIELD.sub("x", row.path))
    except RouteUnknown:
        raise RoutesInvalid(f"no path below {folder} is read as {name}") from None
    if target.endpoint != row.endpoint:
        raise RoutesInvalid(f"{name} is a path of the endpoint {target.endpoint}, not {row.endpoint}")
    if bool(target.repository) != isinstance(row, RepositoryRoute):
        names = "names a repository" if target.repository else "names no repository"
        raise RoutesInvalid(f"{name} {names}, so it cannot be a {type(row).__name__}")


def dispatch_path(rows: Sequence[Row]) -> Handler:
    """The handler of one path, whose rows differ by method."""
    handlers: dict[str, Handler] = {}
    for row in rows:
        if isinstance(row, AccountRoute):
            handlers.update(dict.fromkeys(row.methods, _guard_account(row)))
        elif isinstance(row, EntityRoute):
            handlers.update(dict.fromkeys(row.methods, _guard_entity(row)))
        elif isinstance(row, Route):
            handlers.update(dict.fromkeys(row.methods, _count(row)))

    async def answer(request: web.Request) -> web.StreamResponse:
        handler = handlers.get(request.method)
        if handler is None:
            raise MethodUnsupported(request.method, ", ".join(handlers))
        return await handler(request)

    return answer


def dispatch_folder(rows: Sequence[Row], parse: Callable[[str], Target]) -> Handler:
    """The handler of all paths below a folder, which `parse` reads; the rows differ by endpoint and method."""
    handlers: dict[Endpoint, dict[str, TargetHandler]] = {}
    for row in rows:
        assert not isinstance(row, AccountRoute | EntityRoute), "the table was checked"
        assert row.endpoint is not None, "the table was checked"
        handler = _guard(row) if isinstance(row, RepositoryRoute) else _ignore_target(_count(row))
        handlers.setdefault(row.endpoint, {}).update(dict.fromkeys(row.methods, handler))

    # plain functions that return an awaitable, like this one, save a coroutine in every pull
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


def _count(row: Route) -> Handler:
    handler = _guard_page(row) if is_form(row) else row.handler
    if row.form in ("rest", "page") and not row.probe:
        handler = _refuse_scoped(handler)
    if row.probe or row.uncounted:
        return handler

    async def answer(request: web.Request) -> web.StreamResponse:
        count_request(request)
        return await handler(request)

    return answer


def _guard(row: RepositoryRoute) -> TargetHandler:
    """Call the row's handler once its need is granted. The kind of the path's repository is looked up here alone."""
    permission = row.permission
    assert permission is not None, "the table was checked"
    handler = _with_reserve(row.handler) if "DELETE" in row.methods else row.handler
    # a session belongs to the pusher, whatever the request does with it
    writes = permission is not Permission.ENVIRONMENT_READ
    changes = changes_things(row)

    async def answer(request: web.Request, target: Target) -> web.StreamResponse:
        app, repository = request.app, target.repository
        parts, kinds = app[PARTS], app[KINDS]
        kind = request[KIND] = kinds.of(repository)
        if changes and "Origin" in request.headers:
            raise Denied("web pages may read this registry, not write to it")
        if writes:
            _check_writable(request, parts, kind, repository)
        check_granted(request, parts, kinds.need(permission, repository))
        if app[RATES] is not None:
            count_request(request)
        response = await handler(request, target)
        if changes:
            note_change(request, request[PRINCIPAL], target.endpoint, repository, target.reference, response)
            if parts.notifier is not None:
                parts.notifier.changed()
        return response

    return answer


def _guard_page(row: Route) -> Handler:
    """The row's handler, called only for a form on a page of this server."""

    async def answer(request: web.Request) -> web.StreamResponse:
        check_site(request)
        return await row.handler(request)

    return answer


def _refuse_scoped(handler: Handler) -> Handler:
    """The handler, called with no registry token: what is public may still say who the sender is."""

    async def answer(request: web.Request) -> web.StreamResponse:
        check_unscoped(request)
        return await handler(request)

    return answer


def _guard_account(row: AccountRoute) -> Handler:
    """The row's handler, called only if the sender has been granted what it needs, and is no page of another site."""
    permission, handler = row.permission, row.handler
    changes = changes_things(row)

    async def answer(request: web.Request) -> web.StreamResponse:
        if changes:
            check_site(request)
        if isinstance(permission, Permission):
            check_entity(request, permission, _FIELD.sub(lambda field: request.match_info[field[0][1:-1]], row.entity))
        else:
            check_signed_in(request)
        count_request(request)
        return await handler(request)

    return answer


def _guard_entity(row: EntityRoute[Any]) -> Handler:
    """The row's handler, called with what its `find` finds if the sender has been granted what it needs there."""
    permission = row.permission
    assert permission is not None, "the table was checked"
    changes = changes_things(row)

    async def answer(request: web.Request) -> web.StreamResponse:
        check_unscoped(request)
        if changes:
            check_site(request)
        try:
            found = await row.find(request)
        except (EnvironmentUnknown, EnvironmentBuildUnknown, NamespaceUnknown) as error:
            raise unknown_to(request, error) from None
        check_found(request, permission, found)
        if changes:
            _check_not_read_only(request.app[PARTS])
        if not found.is_counted:
            count_request(request)
        return await row.handler(request, found.thing)

    if "DELETE" not in row.methods:
        return answer

    async def delete(request: web.Request) -> web.StreamResponse:
        return await _spend_if_full(request, lambda: answer(request))

    return delete


def _check_writable(request: web.Request, parts: Parts, kind: RepositoryKind, repository: str) -> None:
    """Raise Denied if nobody may write to the repository, or LookupError if its kind would write to another."""
    refusal = kind.refusal(request, repository)
    if refusal is not None:
        raise Denied(refusal)
    _check_not_read_only(parts)
    if kind.scope(repository) != repository:
        raise LookupError(f"{type(kind).__name__} lets {repository} be written to, but reads {kind.scope(repository)}")


def _check_not_read_only(parts: Parts) -> None:
    """Raises Denied."""
    if parts.read_only:
        raise Denied("this registry is read-only now; its administrator has turned off pushes and deletions")


def _with_reserve(handler: TargetHandler) -> TargetHandler:
    """Make room for a deletion on a full disk: if it fails, spend the reserve and run it again."""

    async def delete(request: web.Request, target: Target) -> web.StreamResponse:
        return await _spend_if_full(request, lambda: handler(request, target))

    return delete


async def _spend_if_full(
    request: web.Request, answer: Callable[[], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await answer()
    except StorageFull:
        reserve = request.app[PARTS].reserve
        if reserve is None or not await asyncio.to_thread(reserve.spend):
            raise
        return await answer()
