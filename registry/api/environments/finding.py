"""The environment or the build that a request's path names, and which of them its sender may see."""

from __future__ import annotations

import re

from aiohttp import web

from auth.permission import Permission
from builder.environments.inputs.environment_file import LONGEST_NAME, NAME
from builder.environments.life import NamedEnvironments
from builder.environments.repository import write_repository
from registry.access.rights import Found
from registry.api.namespaces import read_namespace
from registry.errors import PathInvalid, RouteUnknown
from registry.observer import PRINCIPAL
from registry.parts import PARTS
from storage.environments.lists.scope import Scope
from storage.environments.vocabulary import LARGEST_ID, Environment, EnvironmentBuild
from storage.errors import EnvironmentBuildUnknown, EnvironmentUnknown

_READ = Permission.ENVIRONMENT_READ
_NUMBER = re.compile(r"[0-9]{1,10}")


def named_of(request: web.Request) -> NamedEnvironments:
    """Raises RouteUnknown where nothing can be built."""
    named = request.app[PARTS].environments
    if named is None:
        raise RouteUnknown(request.rel_url.raw_path)
    return named


async def find_environment(request: web.Request) -> Found[Environment]:
    """Raises PathInvalid, EnvironmentUnknown."""
    namespace, name = read_namespace(request), request.match_info["environment"]
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise PathInvalid("environment", name, f"expected letters, digits and + _ @ $ & ? ^ ~ . = -, {LONGEST_NAME}")
    unknown = EnvironmentUnknown(namespace, name)
    parts = request.app[PARTS]
    try:
        found = await parts.stored_environments.environments.find(namespace, name)
    except EnvironmentUnknown as error:
        # similar names are told to whoever may read all of them
        is_open = parts.access.may(request[PRINCIPAL], _READ, f"{namespace}/*")
        raise (error if is_open else unknown) from None
    return Found(write_repository(namespace, name), found, unknown)


async def find_build(request: web.Request) -> Found[EnvironmentBuild]:
    """Raises PathInvalid, EnvironmentBuildUnknown."""
    text = request.match_info["build"]
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= LARGEST_ID:
        raise PathInvalid("build", text, "expected the number of a build")
    unknown = EnvironmentBuildUnknown(int(text))
    build = await request.app[PARTS].stored_environments.builds.find(int(text))
    return Found(build.repository, build, unknown)


def scope_of(request: web.Request) -> Scope:
    """The environments that the sender may read."""
    access, principal = request.app[PARTS].access, request[PRINCIPAL]
    # asked of each environment there is only of whoever has very many patterns
    return Scope.of(access.patterns(principal, _READ), lambda repository: access.may(principal, _READ, repository))
