"""What requests add to the audit log: what they changed, and what they were refused."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web

from auth.audit.actor import Actor
from auth.audit.event import AuditEvent, Outcome
from auth.audit.floods import BUILD, SIGN_IN
from auth.errors import TooManyAttempts
from auth.principal import Principal
from auth.tokens.errors import CredentialsInvalid
from builder.errors import TooManyBuilds
from registry.answers import answer_of
from registry.errors import Unauthorized
from registry.http.references import Endpoint, parse_file_path, parse_path
from registry.logs.request_log import REQUEST_ID
from registry.parts import PARTS, PROXIES
from registry.peers.networks import client_of
from storage.errors import ConderyError

PULL = "manifest.pull"

_REFUSALS = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})

_CHANGES: Mapping[tuple[Endpoint, str], str] = {
    ("manifests", "PUT"): "manifest.push",
    ("manifests", "DELETE"): "manifest.delete",
    ("blobs", "DELETE"): "blob.delete",
    ("uploads", "POST"): "blob.push",
    ("upload", "PUT"): "blob.push",
}

_TRIES: Mapping[Endpoint, str] = {
    "manifests": PULL,
    "blobs": "blob.pull",
    "file": "file.pull",
    "tags": "tags.list",
    "referrers": "referrers.list",
    "catalog": "catalog.list",
    "uploads": "blob.push",
    "upload": "blob.push",
}
"""What requests to an endpoint would do that change nothing, or not yet."""

OTHER = "request"
"""The action of a request that is refused and is about no repository; its entity is the path."""


def actor_of(request: web.Request, principal: Principal) -> Actor:
    return Actor.of(principal, request.app[PROXIES].client(request), request[REQUEST_ID])


def note(
    request: web.Request, principal: Principal, action: str, entity: str, *, outcome: Outcome = "allowed", **detail: Any
) -> None:
    """Note what the sender did, or tried to do; never waits."""
    actor = actor_of(request, principal)
    event = AuditEvent(
        actor.name,
        actor.kind,
        action,
        entity,
        outcome,
        token=actor.token,
        client=actor.client,
        request=actor.request,
        detail={name: value for name, value in detail.items() if value},
        network=client_of(actor.client),
    )
    request.app[PARTS].audit.note(event)


def note_change(
    request: web.Request,
    principal: Principal,
    endpoint: Endpoint,
    repository: str,
    reference: str,
    response: web.StreamResponse,
) -> None:
    """Note a change that succeeded. A session that is not finished has changed nothing yet."""
    action = _CHANGES.get((endpoint, request.method))
    if action is None or (endpoint == "uploads" and response.status != HTTPStatus.CREATED):
        return
    digest = response.headers.get("Docker-Content-Digest", "")
    # a session's id means nothing once it is finished
    named = "" if endpoint in ("upload", "uploads") else reference
    note(request, principal, action, repository, reference=named, digest="" if digest == named else digest)


def note_refusal(request: web.Request, principal: Principal, error: ConderyError) -> None:
    """Note an error that refuses something to the sender, or takes their credentials for wrong.

    Who sent no credentials and is asked for some is refused nothing yet.
    """
    if isinstance(error, Unauthorized) and isinstance(error.__cause__, CredentialsInvalid):
        cause = error.__cause__
        note(request, principal, SIGN_IN, cause.name, outcome="denied", reason=cause.reason)
        return
    if isinstance(error, TooManyAttempts):
        # the name is no entity here: with another name in each request, a client would fill the log
        note(request, principal, SIGN_IN, "", outcome="denied", reason="too many attempts", name=error.name)
        return
    if isinstance(error, TooManyBuilds):
        note(request, principal, BUILD, _tried(request)[1], outcome="denied", reason=str(error))
        return
    answer = answer_of(type(error))
    if answer is None or answer.status not in _REFUSALS:
        return
    if isinstance(error, Unauthorized) and "Authorization" not in request.headers:
        return
    action, entity = _tried(request)
    note(request, principal, action, entity, outcome="denied", method=request.method, reason=str(error))


def _tried(request: web.Request) -> tuple[str, str]:
    """The action and the entity of a request that was refused."""
    path = request.rel_url.raw_path
    try:
        if path.startswith("/v2/"):
            target = parse_path(path)
        elif path.startswith("/files/"):
            target = parse_file_path(path)
        else:
            return OTHER, path
    except ConderyError:
        return OTHER, path
    action = _CHANGES.get((target.endpoint, request.method)) or _TRIES.get(target.endpoint, OTHER)
    return action, target.repository or path
