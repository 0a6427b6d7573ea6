"""GET environment/ and all about one: its description, and which of its builds is the current one."""

from __future__ import annotations

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from auth.audit.log import append
from registry.api.documents import answer_data, answer_message, read_number, read_object, read_text
from registry.api.environments.finding import named_of
from registry.api.environments.queries import (
    PAGING,
    SEVERAL,
    answer_rows,
    read_artifact,
    read_packages,
    read_page,
    read_status,
)
from registry.api.environments.specification import check_description
from registry.api.environments.writing import DIRECTORY, LOGS, write_build, write_environment
from registry.api.queries import check_parameters, read_word
from registry.errors import BodyInvalid
from registry.observer import PRINCIPAL
from registry.parts import PARTS
from registry.trail import actor_of
from storage.environments.vocabulary import ENVIRONMENT_SORTS, LARGEST_ID, Environment, EnvironmentFilter

FILTERS = ("namespace", "name", "search", "status", "packages", "artifact")


async def list_environments(request: web.Request) -> web.StreamResponse:
    """Those that the sender may read. conda-store's command line needs all of them where it names no page."""
    check_parameters(request, (*FILTERS, *PAGING), SEVERAL)
    rows = request.app[PARTS].stored_environments.environments
    return await answer_rows(
        request, rows, read_filter(request), read_page(request, ENVIRONMENT_SORTS, "namespace"), write_environment
    )


def read_filter(request: web.Request) -> EnvironmentFilter:
    """Raises PageInvalid."""
    artifact = read_artifact(request)
    return EnvironmentFilter(
        read_word(request, "namespace"),
        read_word(request, "name"),
        read_word(request, "search"),
        read_status(request),
        read_packages(request),
        has_image=artifact is not None and artifact != LOGS,
        is_on_disk=artifact == DIRECTORY,
    )


async def put_environment(request: web.Request, environment: Environment) -> web.StreamResponse:
    """Set the current build, the description, or both."""
    document = await read_object(request, ("build_id", "description"))
    build_id, description = read_number(document, "build_id", LARGEST_ID), read_text(document, "description")
    if build_id is None and description is None:
        raise BodyInvalid("", "expected build_id, description, or both")
    if description is not None:
        check_description(description, "description")
    actor = actor_of(request, request[PRINCIPAL])

    async def record(connection: AsyncConnection, changed: Environment) -> None:
        if build_id is not None:
            await append(connection, actor.did("environment.switch", changed.repository, build=build_id))
        if description is not None:
            await append(connection, actor.did("environment.describe", changed.repository))

    changed = await request.app[PARTS].stored_environments.environments.change(
        environment.namespace, environment.name, build_id=build_id, description=description, record=record
    )
    return answer_data(write_environment(changed))


async def delete_environment(request: web.Request, environment: Environment) -> web.StreamResponse:
    """Its builds that have not ended are cancelled."""
    principal = request[PRINCIPAL]
    actor = actor_of(request, principal)

    async def record(connection: AsyncConnection, gone: Environment) -> None:
        await append(connection, actor.did("environment.delete", gone.repository, name=gone.name))

    await named_of(request).delete(environment.namespace, environment.name, by=principal.name, record=record)
    return answer_message(f"environment {environment.namespace}/{environment.name} deleted")


async def get_environment(request: web.Request, environment: Environment) -> web.StreamResponse:
    assert environment.current_build is not None, "one has a build from the start"
    current = await request.app[PARTS].stored_environments.builds.find(environment.current_build)
    return answer_data({**write_environment(environment), "current_build": write_build(current)})
