"""GET and PUT setting/: what is set for all environments, for those of a namespace, and for one."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from auth.audit.log import append
from builder.environments.settings import SettingsFound
from builder.errors import InputInvalid
from registry.api.documents import answer_data, read_object
from registry.api.environments.finding import named_of
from registry.api.namespaces import read_namespace
from registry.errors import BodyInvalid
from registry.observer import PRINCIPAL
from registry.parts import PARTS
from registry.trail import actor_of
from storage.environments.vocabulary import Environment


async def get_settings(request: web.Request) -> web.StreamResponse:
    """What holds for all environments, or for those of the namespace in the path."""
    return await _answer(request, _read_namespace(request))


async def put_settings(request: web.Request) -> web.StreamResponse:
    namespace = _read_namespace(request)
    if namespace:
        request.app[PARTS].namespaces.check(namespace)
    return await _change(request, f"{namespace or '*'}/*", namespace)


async def get_environment_settings(request: web.Request, environment: Environment) -> web.StreamResponse:
    return await _answer(request, environment.namespace, environment.name)


async def put_environment_settings(request: web.Request, environment: Environment) -> web.StreamResponse:
    return await _change(request, environment.repository, environment.namespace, environment.name)


async def _change(request: web.Request, entity: str, namespace: str, environment: str = "") -> web.StreamResponse:
    """Set the fields that the body has; what it does not have stays, and null takes one away."""
    settings = named_of(request).wanted.settings
    document = await read_object(request, None)
    try:
        changes = settings.read(document)
    except InputInvalid as error:
        raise BodyInvalid(error.path, error.reason) from None
    actor = actor_of(request, request[PRINCIPAL])

    async def record(connection: AsyncConnection, _: None) -> None:
        await append(connection, actor.did("setting.update", entity, settings=", ".join(sorted(changes))))

    await settings.store.change(changes, namespace, environment, record)
    return await _answer(request, namespace, environment, message=f"set {', '.join(sorted(changes)) or 'nothing'}")


async def _answer(request: web.Request, namespace: str, environment: str = "", **more: str) -> web.StreamResponse:
    found = await named_of(request).wanted.settings.find(namespace, environment)
    return answer_data(found.values.to_json(), **more, layers=_write_layers(found))


def _write_layers(found: SettingsFound) -> dict[str, Any]:
    layers: dict[str, Any] = {"all": {}, "namespace": {}, "environment": {}}
    for each in found.layers:
        layers["environment" if each.environment else "namespace" if each.namespace else "all"] = each.document
    return layers


def _read_namespace(request: web.Request) -> str:
    """Empty where the path has none. Raises PathInvalid."""
    return read_namespace(request) if "namespace" in request.match_info else ""
