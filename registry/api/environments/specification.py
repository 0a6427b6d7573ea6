"""POST specification/: what somebody wrote down is read, and a build of it asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from auth.audit.log import append, name_build
from auth.permission import Permission
from auth.refusal import refuse_environment
from builder.environments.inputs.environment_file import LONGEST_NAME, check_name
from builder.environments.inputs.input import EnvironmentInput
from builder.environments.inputs.reading import LARGEST_LOCK
from builder.environments.repository import write_repository
from builder.errors import InputInvalid
from registry.access.rights import Found, check_anywhere, check_within
from registry.api.documents import answer_data, read_flag, read_object, read_text
from registry.api.environments.finding import named_of
from registry.api.permissions import find_primary_namespace
from registry.errors import BodyInvalid, Denied, NameInvalid
from registry.http.references import check_repository
from registry.kinds.extended import check_extended
from registry.kinds.refused import refusing_specification
from registry.observer import PRINCIPAL
from registry.parts import PARTS, room_for
from registry.rates import caller_of, count_request
from registry.trail import actor_of
from storage.environments.vocabulary import EnvironmentBuild

FIELDS = ("specification", "namespace", "is_lockfile", "environment_name", "environment_description")
LARGEST = LARGEST_LOCK + (LARGEST_LOCK >> 1)
"""Bytes of the body: in JSON each end of a line and each quotation mark of a lock takes one more."""
PARSED = 3
"""How many times its size a body takes from the memory for pushes."""
LONGEST_DESCRIPTION = 10_000

CREATE, UPDATE = Permission.ENVIRONMENT_CREATE, Permission.ENVIRONMENT_UPDATE


@dataclass(frozen=True)
class Sent:
    """An environment that somebody has written down, and what it is to be called."""

    namespace: str
    name: str
    repository: str
    wanted: EnvironmentInput
    description: str | None


async def find_specification(request: web.Request) -> Found[Sent]:
    """What the body has, and the environment that it is about.

    Raises RequestError, InputInvalid, NameUnfit; Denied and Unauthorized to whoever may create nothing at all, before
    they send much.
    """
    check_anywhere(request, (CREATE,), "have environments built")
    sent = await read_specification(request, CREATE)
    return Found(sent.repository, sent, is_counted=True)


async def post_specification(request: web.Request, sent: Sent) -> web.StreamResponse:
    """The sender may create this environment. Whether they may change one that is there is decided with its row."""
    await check_extended(request, sent.wanted.extends)
    principal, parts = request[PRINCIPAL], request.app[PARTS]
    actor = actor_of(request, principal)

    async def record(connection: AsyncConnection, build: EnvironmentBuild) -> None:
        # the first build of an environment is the current one from the start
        if not build.is_current and not parts.access.may(principal, UPDATE, sent.repository):
            raise Denied(refuse_environment(principal, UPDATE, sent.repository))
        await append(connection, actor.did(name_build(build), sent.repository, build=build.id))

    with refusing_specification():
        build = await named_of(request).create(
            sent.namespace,
            sent.name,
            sent.wanted,
            by=principal.name,
            caller=caller_of(request),
            description=sent.description,
            record=record,
        )
    warnings = {"message": "; ".join(sent.wanted.warnings)} if sent.wanted.warnings else {}
    return answer_data({"build_id": build.id}, **warnings)


async def read_specification(request: web.Request, permission: Permission, *, needs_name: bool = True) -> Sent:
    """What the body has. Without a name, where none is needed, it is about the whole namespace.

    It counts as a request before it is read, as refusing it costs no less. Raises BodyInvalid, BodyTooLarge,
    BodyBroken, InputInvalid, NameUnfit, TooManyRequests; Denied and Unauthorized to whoever has `permission` on nothing
    in the namespace.
    """
    count_request(request)
    async with room_for(request, PARSED * min(request.content_length or LARGEST, LARGEST)):
        document = await read_object(request, FIELDS, LARGEST)
        text, is_lock = read_written(document)
        name, description = read_text(document, "environment_name"), read_text(document, "environment_description")
        namespace = read_text(document, "namespace") or await find_primary_namespace(request)
        request.app[PARTS].namespaces.check(namespace)
        check_within(request, permission, namespace)
        named = named_of(request)
        wanted = await named.wanted.read(
            text,
            named.builder.pool,
            namespace,
            name,
            is_lock=is_lock,
            needs_name=needs_name,
        )
    if not (needs_name or name or wanted.name):
        return Sent(namespace, "", f"{namespace}/*", wanted, None)
    return _name(request, wanted, namespace, name, description)


def read_written(document: Mapping[str, Any]) -> tuple[bytes, bool | None]:
    """What somebody wrote down, and True if it has to be a lock. Raises BodyInvalid."""
    text = read_text(document, "specification")
    if text is None:
        raise BodyInvalid("specification", "it is missing; send the text of an environment file or a lock")
    return text.encode(), read_flag(document, "is_lockfile") or None


def check_description(text: str, where: str) -> None:
    """Raises BodyInvalid."""
    if len(text) > LONGEST_DESCRIPTION:
        raise BodyInvalid(where, f"it has {len(text)} characters; at most {LONGEST_DESCRIPTION} are allowed")
    if not text.translate(dict.fromkeys(map(ord, "\n\t\r"))).isprintable():
        raise BodyInvalid(where, "it has a control character")


def _name(
    request: web.Request, wanted: EnvironmentInput, namespace: str, name: str | None, description: str | None
) -> Sent:
    chosen = wanted.name or name
    if not chosen:
        raise InputInvalid("environment_name", "it is missing; a lock does not say what its environment is called")
    if len(chosen) > LONGEST_NAME:
        raise InputInvalid("environment_name", f"it has more than {LONGEST_NAME} characters")
    check_name(chosen, "name" if wanted.name else "environment_name")
    if description is not None:
        check_description(description, "environment_description")
    repository = write_repository(namespace, chosen)
    try:
        check_repository(repository)
    except NameInvalid:
        raise InputInvalid("name", f"{chosen} leaves no name for its images; use more letters and digits") from None
    return Sent(namespace, chosen, repository, wanted, description or None)
