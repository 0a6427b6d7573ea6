"""GET audit/: events of the audit log, the newest first, in pages; of everything, or about one namespace."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import UTC, datetime
from urllib.parse import urlencode

from aiohttp import web

from auth.accounts.names import is_name
from auth.audit.reading import MOST_EVENTS, AuditFilter, StoredEvent
from registry.api.documents import answer_data
from registry.errors import PageInvalid, RouteUnknown
from registry.parts import PARTS

FILTERS = ("principal", "action", "entity", "outcome", "since", "until", "limit", "before")
_OUTCOMES = ("allowed", "denied")
_NUMBER = re.compile(r"[0-9]{1,18}")


async def list_events(request: web.Request) -> web.StreamResponse:
    """The sender was granted audit::read on the namespace in the path, or on everything if there is none."""
    for name in request.query:
        if name not in FILTERS:
            raise PageInvalid(name, request.query[name], f"there is no such filter; there are {', '.join(FILTERS)}")
        if len(request.query.getall(name)) > 1:
            raise PageInvalid(name, request.query.getall(name)[1], "this filter is there twice")
        if not request.query[name].isprintable():
            raise PageInvalid(name, request.query[name], "expected printable characters")
    page = await request.app[PARTS].audit.read_page(
        _read_filter(request), _read_number(request, "before", None), _read_number(request, "limit", 100) or 100
    )
    more = {} if page.before is None else {"next": _next(request, page.before)}
    return answer_data([_write(each) for each in page.events], **more)


def _read_filter(request: web.Request) -> AuditFilter:
    query = request.query
    outcome = query.get("outcome")
    if outcome not in (None, *_OUTCOMES):
        raise PageInvalid("outcome", outcome or "", f"expected one of {', '.join(_OUTCOMES)}")
    since, until = _read_moment(request, "since"), _read_moment(request, "until")
    if since is not None and until is not None and since >= until:
        raise PageInvalid("until", query["until"], "expected a time after since")
    return AuditFilter(
        query.get("principal"),
        query.get("action"),
        _read_entity(request),
        outcome,
        since,
        until,
        _read_namespace(request),
    )


def _read_namespace(request: web.Request) -> str | None:
    namespace = request.match_info.get("namespace")
    if namespace is not None and not is_name(namespace):
        raise RouteUnknown(request.rel_url.raw_path)
    return namespace


def _read_entity(request: web.Request) -> str | None:
    """The filter of entities; below a namespace it leads to no other."""
    entity, namespace = request.query.get("entity"), _read_namespace(request)
    if entity is None or namespace is None or entity == namespace or entity.startswith(f"{namespace}/"):
        return entity
    raise PageInvalid("entity", entity, f"expected one in the namespace, such as {namespace}/*")


def _read_number(request: web.Request, name: str, default: int | None) -> int | None:
    text = request.query.get(name)
    if text is None:
        return default
    if not _NUMBER.fullmatch(text) or int(text) < 1:
        raise PageInvalid(name, text, "expected a whole number from 1")
    return int(text) if name == "before" else min(int(text), MOST_EVENTS)


def _read_moment(request: web.Request, name: str) -> float | None:
    text = request.query.get(name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        # in a query a `+` is a space
        raise PageInvalid(name, text, "expected a time such as 2027-01-31T12:00:00Z, or with %2B01:00") from None


def _next(request: web.Request, before: int) -> str:
    """The address of the next page, of older events."""
    query = {**request.query, "before": str(before)}
    return f"{request.rel_url.raw_path}?{urlencode(query)}"


def _write(event: StoredEvent) -> dict[str, object]:
    return {**asdict(event), "time": datetime.fromtimestamp(event.time, UTC).isoformat()}
