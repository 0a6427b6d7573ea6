"""GET watch/: files on the server that are watched, and what became of their content."""

from __future__ import annotations

import os
from typing import Any

from aiohttp import web

from auth.permission import Permission
from builder.environments.repository import write_repository
from registry.api.documents import answer_list
from registry.api.environments.queries import PAGING
from registry.api.environments.writing import write_time, write_time_or_null
from registry.api.queries import check_parameters
from registry.observer import PRINCIPAL
from registry.parts import PARTS
from storage.environments.watching.watched import WatchedFile

SORTS = ("namespace", "path", "environment", "changed_on")


async def list_watched(request: web.Request) -> web.StreamResponse:
    """Those of environments that the sender may read. A file without one shows to who may read the whole namespace."""
    check_parameters(request, PAGING)
    parts, principal = request.app[PARTS], request[PRINCIPAL]
    rows, after = list[dict[str, Any]](), ""
    while found := await parts.stored_environments.watched.list_all(after):
        after = found[-1].place.key
        rows += [
            _write(each) for each in found if parts.access.may(principal, Permission.ENVIRONMENT_READ, _entity(each))
        ]
    return answer_list(request, sorted(rows, key=lambda row: (row["namespace"], row["path"])), SORTS)


def _entity(file: WatchedFile) -> str:
    namespace = file.place.namespace
    return f"{namespace}/*" if file.environment is None else write_repository(namespace, file.environment)


def _write(file: WatchedFile) -> dict[str, Any]:
    place = file.place
    return {
        # where the directory is on the server concerns nobody
        "path": os.path.relpath(place.path, os.path.dirname(place.root)),
        "namespace": place.namespace,
        "environment": file.environment,
        "sha256": file.sha256,
        "build_id": file.build,
        "error": file.error,
        "changed_on": write_time(file.changed),
        "gone_on": write_time_or_null(file.gone),
    }
