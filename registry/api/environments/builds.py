"""GET build/ and all about one build."""

from __future__ import annotations

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from auth.audit.log import append
from builder.environments.request import BuildRequest
from registry.api.documents import answer_data, answer_message
from registry.api.environments.finding import named_of
from registry.api.environments.queries import (
    PAGING,
    SEVERAL,
    answer_rows,
    read_artifact,
    read_number,
    read_packages,
    read_page,
    read_status,
)
from registry.api.environments.writing import DIRECTORY, LOGS, write_build, write_whole_build
from registry.api.queries import check_parameters, read_word
from registry.kinds.extended import check_extended
from registry.observer import PRINCIPAL
from registry.parts import PARTS
from registry.rates import caller_of
from registry.trail import actor_of, note
from storage.environments.vocabulary import BUILD_SORTS, BuildFilter, EnvironmentBuild
from storage.errors import BuildStateWrong

FILTERS = ("namespace", "name", "environment_id", "status", "packages", "artifact")


async def list_builds(request: web.Request) -> web.StreamResponse:
    """Those of environments that the sender may read."""
    check_parameters(request, (*FILTERS, *PAGING), SEVERAL)
    rows = request.app[PARTS].stored_environments.builds
    return await answer_rows(request, rows, read_filter(request), read_page(request, BUILD_SORTS, "id"), write_build)


def read_filter(request: web.Request) -> BuildFilter:
    """Raises PageInvalid."""
    artifact = read_artifact(request)
    return BuildFilter(
        read_word(request, "namespace"),
        read_word(request, "name"),
        read_number(request, "environment_id"),
        read_status(request),
        read_packages(request),
        has_image=artifact is not None and artifact != LOGS,
        is_on_disk=artifact == DIRECTORY,
    )


async def put_build(request: web.Request, build: EnvironmentBuild) -> web.StreamResponse:
    """Have the same specification solved and built again, by who may read what it extends now."""
    specification = await request.app[PARTS].stored_environments.builds.find_specification(build.specification)
    await check_extended(request, BuildRequest.from_json(specification.request).extends)
    principal = request[PRINCIPAL]
    actor = actor_of(request, principal)

    async def record(connection: AsyncConnection, new: EnvironmentBuild) -> None:
        await append(connection, actor.did("environment.rebuild", new.repository, build=new.id, of=build.id))

    new = await named_of(request).rebuild(build.id, by=principal.name, caller=caller_of(request), record=record)
    return answer_data({"build_id": new.id}, message="rebuild triggered")


async def cancel_build(request: web.Request, build: EnvironmentBuild) -> web.StreamResponse:
    principal = request[PRINCIPAL]
    if not await named_of(request).cancel(build, f"canceled by {principal.name}"):
        now = await request.app[PARTS].stored_environments.builds.find(build.id)
        raise BuildStateWrong(build.id, f"it is {now.status} already, so there is nothing to cancel")
    note(request, principal, "build.cancel", build.repository, build=build.id)
    return answer_message(f"build {build.id} canceled")


async def delete_build(request: web.Request, build: EnvironmentBuild) -> web.StreamResponse:
    """One that has ended, and is not the current one."""
    actor = actor_of(request, request[PRINCIPAL])

    async def record(connection: AsyncConnection, gone: EnvironmentBuild) -> None:
        await append(connection, actor.did("build.delete", gone.repository, build=gone.id))

    await request.app[PARTS].stored_environments.environments.delete_build(build.id, record)
    return answer_message(f"build {build.id} deleted")


async def get_build(request: web.Request, build: EnvironmentBuild) -> web.StreamResponse:
    stored = request.app[PARTS].stored_environments
    specification = await stored.builds.find_specification(build.specification)
    return answer_data(write_whole_build(build, specification, await stored.on_disk.find(build.id)))
