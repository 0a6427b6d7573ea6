"""GET alarm/: current builds that hold what the rules of now refuse."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from auth.permission import Permission
from registry.api.documents import answer_list
from registry.api.environments.queries import PAGING
from registry.api.environments.writing import write_time
from registry.api.queries import check_parameters
from registry.observer import PRINCIPAL
from registry.parts import PARTS
from storage.environments.upkeep import Alarm

SORTS = ("namespace", "environment", "since")


async def list_alarms(request: web.Request) -> web.StreamResponse:
    """Those about environments that the sender may read, the oldest first."""
    check_parameters(request, PAGING)
    parts, principal = request.app[PARTS], request[PRINCIPAL]
    rows = [
        _write(each)
        for each in await parts.stored_environments.upkeep.list_alarms()
        if parts.access.may(principal, Permission.ENVIRONMENT_READ, each.build.repository)
    ]
    return answer_list(request, rows, SORTS)


def _write(alarm: Alarm) -> dict[str, Any]:
    return {
        "namespace": alarm.build.namespace,
        "environment": alarm.build.name,
        "build_id": alarm.build.id,
        "reason": alarm.reason,
        "since": write_time(alarm.since),
    }
