"""GET environment/ and all about one: its description, and which of its builds is the current one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from registry.api.documents import answer_data
from registry.api.environments.finding import scope_of
from registry.api.environments.queries import (
    PAGING,
    check_parameters,
    is_never_made,
    read_artifact,
    read_packages,
    read_page,
    read_status,
    read_word,
)
from registry.api.environments.writing import LOGS, write_build, write_environment
from registry.api.streamed import answer_all
from registry.parts import PARTS
from storage.environments.vocabulary import ENVIRONMENT_SORTS, Environment, EnvironmentFilter

FILTERS = ("namespace", "name", "search", "status", "packages", "artifact")


async def list_environments(request: web.Request) -> web.StreamResponse:
    """Those that the sender may read. conda-store's command line needs all of them where it names no page."""
    check_parameters(request, (*FILTERS, *PAGING))
    which, artifact = read_filter(request), read_artifact(request)
    paging, page = read_page(request, ENVIRONMENT_SORTS, "namespace")
    store = request.app[PARTS].stored_environments.environments

    async def load(ids: Sequence[int]) -> list[dict[str, Any]]:
        return [write_environment(each) for each in await store.find_many(ids)]

    if page is None:
        ids = [] if is_never_made(artifact) else await store.list_ids(scope_of(request), which, paging)
        return await answer_all(request, ids, load)
    if is_never_made(artifact):
        return answer_data([], page=page, size=paging.limit, count=0)
    listed = await store.list_all(scope_of(request), which, paging)
    rows = [write_environment(each) for each in listed.items]
    return answer_data(rows, page=page, size=paging.limit, count=listed.count)


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
    )


async def get_environment(request: web.Request, environment: Environment) -> web.StreamResponse:
    assert environment.current_build is not None, "one has a build from the start"
    current = await request.app[PARTS].stored_environments.builds.find(environment.current_build)
    return answer_data({**write_environment(environment), "current_build": write_build(current)})
