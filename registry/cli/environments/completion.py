"""Names of environments for a shell that completes them, which shows no error and waits: quickly, or none."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from registry.cli.environments.place import Place
from registry.cli.environments.shown import EnvironmentQuery

SECONDS = 2.0
MOST = 200


def list_names(given: Mapping[str, Any], incomplete: str) -> list[str]:
    """Names that begin with what was typed; `given` are the options before it."""
    from registry.cli.environments.opening import work_at
    from registry.settings.loading import load
    from storage.errors import ConderyError

    async def work(place: Place) -> Sequence[str]:
        before, slash, _ = incomplete.rpartition("/")
        namespace = before if slash else given.get("namespace") or await place.find_namespace()
        found = await place.list_environments(EnvironmentQuery(namespace))
        return [each.full_name if slash else each.name for each in found]

    async def work_quickly(place: Place) -> Sequence[str]:
        async with asyncio.timeout(SECONDS):
            return await work(place)

    try:
        config, data = given.get("config"), given.get("data_directory")
        loaded = load({"data_directory": data} if data else {}, Path(config) if config else None)
        names = work_at(loaded, given.get("server"), bool(given.get("insecure")), work_quickly)
    except (ConderyError, OSError):
        return []
    return [name for name in names if name.startswith(incomplete)][:MOST]
