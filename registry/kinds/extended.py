"""The environment that another extends: whoever asks has to be able to read it, as its packages are in the other."""

from __future__ import annotations

import contextlib

from aiohttp import web

from auth.permission import Permission
from registry.errors import SpecificationRefused
from registry.kinds.kind import KINDS, is_granted
from registry.parts import PARTS
from storage.errors import EnvironmentUnknown


async def check_extended(request: web.Request, extends: str | None) -> None:
    """Raises SpecificationRefused for what is not there, or is as if it was not: the same for both."""
    if extends is None:
        return
    namespace, _, name = extends.partition("/")
    with contextlib.suppress(EnvironmentUnknown):
        found = await request.app[PARTS].stored_environments.environments.find(namespace, name)
        if is_granted(request, request.app[KINDS].need(Permission.ENVIRONMENT_READ, found.repository)):
            return
    raise SpecificationRefused(f"extends: there is no environment {extends}, or you may not read it")
