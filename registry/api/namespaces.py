"""Namespaces and their role mappings: what is bound to a namespace is for all who may act for it.

conda-store maps a role to another namespace; here a binding's pattern may also be narrower, and shows as its entity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from auth.accounts.bindings import HeldBinding, Holder
from auth.accounts.names import is_name
from auth.accounts.namespaces import Namespace
from auth.errors import BindingUnknown, NamespaceUnknown
from auth.permission import Permission
from registry.access.rights import Found, check_entity
from registry.api.documents import answer_data, answer_list, answer_message, read_object, read_text
from registry.api.queries import read_word
from registry.errors import BodyInvalid, PageInvalid, PathInvalid
from registry.observer import PRINCIPAL
from registry.parts import PARTS
from registry.trail import actor_of

_READ = Permission.NAMESPACE_READ
NAME_RULE = "expected the name of a namespace: parts of a-z and 0-9, joined by single . _ -"


def read_namespace(request: web.Request) -> str:
    """The name of a namespace in the path. Raises PathInvalid."""
    name = request.match_info["namespace"]
    if not is_name(name):
        raise PathInvalid("namespace", name, NAME_RULE)
    return name


async def find_namespace(request: web.Request) -> Found[Namespace]:
    """Raises PathInvalid, NamespaceUnknown."""
    name = read_namespace(request)
    unknown = NamespaceUnknown(name)
    try:
        namespace = await request.app[PARTS].namespaces.find(name)
    except NamespaceUnknown:
        # similar names are others' business
        raise unknown from None
    return Found(name, namespace, unknown, _READ)


async def list_namespaces(request: web.Request) -> web.StreamResponse:
    """Those that the sender may read; id and name alone, as conda-store's clients expect."""
    parts, principal = request.app[PARTS], request[PRINCIPAL]
    found = await parts.namespaces.list_names()
    if not parts.access.may_everywhere(principal, _READ):
        found = [(number, name) for number, name in found if parts.access.may(principal, _READ, name)]
    return answer_list(request, [{"id": number, "name": name} for number, name in found], ("name", "id"))


async def get_namespace(request: web.Request, namespace: Namespace) -> web.StreamResponse:
    """The mappings are left out for whoever may not read them."""
    parts, principal = request.app[PARTS], request[PRINCIPAL]
    may = parts.access.may(principal, Permission.NAMESPACE_ROLE_MAPPING_READ, namespace.name)
    held = await _list_held(request, namespace) if may else []
    mappings = [{"id": each.id, "entity": each.pattern, "role": each.role} for each in held]
    document = {"id": namespace.number, "name": namespace.name, "metadata_": namespace.metadata}
    return answer_data({**document, "role_mappings": mappings})


async def create_namespace(request: web.Request) -> web.StreamResponse:
    name = request.match_info["namespace"]
    await request.app[PARTS].namespaces.create(name, by=actor_of(request, request[PRINCIPAL]))
    return answer_message(f"namespace {name} created")


async def put_namespace(request: web.Request, namespace: Namespace) -> web.StreamResponse:
    """Replace the metadata, the role mappings, or both."""
    document = await read_object(request, ("metadata", "role_mappings"))
    metadata, mappings = document.get("metadata"), document.get("role_mappings")
    if metadata is not None and not isinstance(metadata, dict):
        raise BodyInvalid("metadata", "expected an object")
    wanted = _read_mappings(mappings) if mappings is not None else None
    if wanted is not None:
        for permission in (Permission.NAMESPACE_ROLE_MAPPING_CREATE, Permission.NAMESPACE_ROLE_MAPPING_DELETE):
            check_entity(request, permission, namespace.name)
    if metadata is not None:
        await _set_metadata(request, namespace, metadata)
    if wanted is not None:
        await _replace(request, namespace, wanted, await _list_held(request, namespace))
    return answer_message(f"namespace {namespace.name} changed")


async def put_metadata(request: web.Request, namespace: Namespace) -> web.StreamResponse:
    await _set_metadata(request, namespace, await read_object(request, None))
    return answer_message(f"metadata of namespace {namespace.name} changed")


async def delete_namespace(request: web.Request, namespace: Namespace) -> web.StreamResponse:
    """One in which there is nothing."""
    await request.app[PARTS].namespaces.delete(namespace.name, by=actor_of(request, request[PRINCIPAL]))
    return answer_message(f"namespace {namespace.name} deleted")


async def list_roles(request: web.Request, namespace: Namespace) -> web.StreamResponse:
    return answer_data([_write_role(namespace, each) for each in await _list_held(request, namespace)])


async def delete_roles(request: web.Request, namespace: Namespace) -> web.StreamResponse:
    await _replace(request, namespace, [], await _list_held(request, namespace))
    return answer_message(f"all role mappings of namespace {namespace.name} deleted")


async def get_role(request: web.Request, namespace: Namespace) -> web.StreamResponse:
    other = read_word(request, "other_namespace") or ""
    if not is_name(other):
        raise PageInvalid("other_namespace", other, NAME_RULE)
    held = await _list_on(request, namespace, other)
    return answer_data(_write_role(namespace, held[0]))


async def create_role(request: web.Request, namespace: Namespace) -> web.StreamResponse:
    document = await read_object(request, ("other_namespace", "role"))
    other, role = _read_other(document), _read_role(document)
    await _bind(request, namespace, f"{other}/*={role}")
    return answer_message(f"namespace {namespace.name} has the role {role} in {other}")


async def put_role(request: web.Request, namespace: Namespace) -> web.StreamResponse:
    """Another role in place of those that it has there."""
    document = await read_object(request, ("other_namespace", "role"))
    other, role = _read_other(document), _read_role(document)
    await _replace(request, namespace, [f"{other}/*={role}"], await _list_on(request, namespace, other))
    return answer_message(f"namespace {namespace.name} has the role {role} in {other}")


async def delete_role(request: web.Request, namespace: Namespace) -> web.StreamResponse:
    document = await read_object(request, ("other_namespace",))
    other = _read_other(document)
    await _replace(request, namespace, [], await _list_on(request, namespace, other))
    return answer_message(f"namespace {namespace.name} has no role in {other} any more")


async def _set_metadata(request: web.Request, namespace: Namespace, metadata: Mapping[str, Any]) -> None:
    actor = actor_of(request, request[PRINCIPAL])
    await request.app[PARTS].namespaces.set_metadata(namespace.name, metadata, by=actor)


async def _list_held(request: web.Request, namespace: Namespace) -> list[HeldBinding]:
    return await request.app[PARTS].bindings.list_all(Holder("namespace", namespace.name))


async def _list_on(request: web.Request, namespace: Namespace, other: str) -> list[HeldBinding]:
    """At least one. Raises BindingUnknown."""
    held = await _list_held(request, namespace)
    found = [each for each in held if each.pattern == f"{other}/*"]
    if not found:
        raise BindingUnknown(f"{other}/*", f"namespace {namespace.name}", [str(each) for each in held])
    return found


async def _bind(request: web.Request, namespace: Namespace, text: str) -> None:
    """Nobody grants what they lack: raises GrantExceeded, BindingInvalid."""
    principal = request[PRINCIPAL]
    await request.app[PARTS].bindings.bind(
        Holder("namespace", namespace.name), text, by=actor_of(request, principal), granter=principal
    )


async def _replace(
    request: web.Request, namespace: Namespace, wanted: Sequence[str], held: Sequence[HeldBinding]
) -> None:
    """Bind what is `wanted` and unbind what was `held`, in this order: nobody is shut out in between."""
    actor, bindings = actor_of(request, request[PRINCIPAL]), request.app[PARTS].bindings
    for text in wanted:
        await _bind(request, namespace, text)
    for each in held:
        text = f"{each.pattern}={each.role}"
        if text not in wanted:
            await bindings.unbind(Holder("namespace", namespace.name), text, by=actor)


def _read_mappings(value: object) -> list[str]:
    """`{entity: [role, ...]}` as bindings."""
    if not isinstance(value, dict) or not all(
        isinstance(roles, list) and all(isinstance(role, str) for role in roles) for roles in value.values()
    ):
        raise BodyInvalid("role_mappings", 'expected lists of roles by entity, such as {"team/*": ["viewer"]}')
    return [f"{entity}={role}" for entity, roles in value.items() for role in roles]


def _read_other(document: Mapping[str, Any]) -> str:
    other = read_text(document, "other_namespace") or ""
    if not is_name(other):
        raise BodyInvalid("other_namespace", NAME_RULE)
    return other


def _read_role(document: Mapping[str, Any]) -> str:
    role = read_text(document, "role")
    if not role:
        raise BodyInvalid("role", "expected a role, such as viewer or editor")
    return role


def _write_role(namespace: Namespace, held: HeldBinding) -> dict[str, Any]:
    other = held.pattern.partition("/")[0]
    return {
        "id": held.id,
        "namespace": namespace.name,
        "other_namespace": other,
        "role": held.role,
        "entity": held.pattern,
    }
