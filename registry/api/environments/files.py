"""What is made of a build: its log and events, its packages, its files, and the reference of its image."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from auth.permission import Permission
from builder.artifacts.artifact import ARCHIVE, ARCHIVE_MEDIA_TYPE, PROVENANCE, REPORT, TEXT_FILES, Artifact
from builder.artifacts.image_file import WRITERS
from builder.errors import BuildFailed
from builder.locks.formats import CONDA_LOCK
from builder.ticket import Ticket
from registry.access.rights import may_still
from registry.answers import PAGE_HEADERS
from registry.api.environments.finding import named_of
from registry.api.logs import stream_events, stream_log
from registry.api.queries import check_parameters, read_word
from registry.errors import NothingMade, PageInvalid, StillBuilding
from registry.kinds.sending import send_file
from registry.parts import PARTS, SETTINGS, host_of
from registry.rates import caller_of
from storage.environments.vocabulary import BuildStatus, Environment, EnvironmentBuild
from storage.errors import EnvironmentBuildUnknown

BuildHandler = Callable[[web.Request, EnvironmentBuild], Awaitable[web.StreamResponse]]

BUILD_FILES: Mapping[str, str] = {
    "yaml/": "environment.yaml",
    "lockfile/": CONDA_LOCK.file_name,
    "conda-lock.yml": CONDA_LOCK.file_name,
    "conda-lock.yaml": CONDA_LOCK.file_name,
    "archive/": ARCHIVE,
    "pixi.lock": "pixi.lock",
    "explicit.txt": "explicit.txt",
    "pylock.toml": "pylock.toml",
    "sbom.spdx.json": "sbom.spdx.json",
    "sbom.cdx.json": "sbom.cdx.json",
    "provenance.json": PROVENANCE,
    "report/": REPORT,
}
"""The files of a build, by the end of the path. Its lock has three names, as clients ask for it."""

_NO_INSTALLER = (
    "no installer is made of a build; unpack its archive, or install from its conda-lock.yml or explicit.txt, "
    "which constructor reads as well"
)


def type_of(name: str) -> str:
    """The media type of a file."""
    if name == ARCHIVE:
        return ARCHIVE_MEDIA_TYPE
    return TEXT_FILES[name].media_type if name in TEXT_FILES else WRITERS[name][0]


def sends(name: str) -> BuildHandler:
    """The handler that answers with this file of a build."""

    async def get_build_file(request: web.Request, build: EnvironmentBuild) -> web.StreamResponse:
        return await _send(request, build, name)

    return get_build_file


async def get_current_lock(request: web.Request, environment: Environment) -> web.StreamResponse:
    """The lock of the current build."""
    assert environment.current_build is not None, "one has a build from the start"
    build = await request.app[PARTS].stored_environments.builds.find(environment.current_build)
    return await _send(request, build, CONDA_LOCK.file_name)


async def _send(request: web.Request, build: EnvironmentBuild, name: str) -> web.StreamResponse:
    build = await _wait_for(request, build, name)
    return await send_file(request, name, _find(request, build, name), stem=build.name)


async def _find(request: web.Request, build: EnvironmentBuild, name: str) -> Ticket[Artifact]:
    return await named_of(request).make_file(build, name, caller_of(request))


async def _wait_for(request: web.Request, build: EnvironmentBuild, what: str) -> EnvironmentBuild:
    """The build, when it has ended. Raises StillBuilding, NothingMade."""
    if not build.is_finished:
        running = await named_of(request).follow(build)
        if running is not None:
            with contextlib.suppress(BuildFailed):
                await running.wait(request.app[SETTINGS].answer_within, caller_of(request))
        build = await request.app[PARTS].stored_environments.builds.find(build.id)
    if not build.is_finished:
        raise StillBuilding(what, str(build.id))
    if build.status != BuildStatus.COMPLETED:
        raise NothingMade(f"build {build.id} is {build.status}: {build.status_info or 'it made nothing'}")
    return build


async def get_image(request: web.Request, build: EnvironmentBuild) -> web.StreamResponse:
    """The reference of the image, for docker pull."""
    build = await _wait_for(request, build, "the image")
    return web.Response(text=f"{host_of(request)}/{build.repository}:{build.id}", headers=PAGE_HEADERS)


async def get_installer(_request: web.Request, _build: EnvironmentBuild) -> web.StreamResponse:
    raise NothingMade(_NO_INSTALLER)


async def get_log(request: web.Request, build: EnvironmentBuild) -> web.StreamResponse:
    check_parameters(request, ("follow",))
    text = read_word(request, "follow")
    if text not in (None, "0", "1"):
        raise PageInvalid("follow", text or "", "expected 1")
    return await stream_log(
        request,
        build.id,
        follow=text == "1",
        is_over=lambda: _is_over(request, build),
        may_read=lambda: _may_read(request, build),
    )


async def get_events(request: web.Request, build: EnvironmentBuild) -> web.StreamResponse:
    return await stream_events(
        request, build.id, is_over=lambda: _is_over(request, build), may_read=lambda: _may_read(request, build)
    )


async def _may_read(request: web.Request, build: EnvironmentBuild) -> bool:
    return await may_still(request, Permission.ENVIRONMENT_READ, build.repository)


async def _is_over(request: web.Request, build: EnvironmentBuild) -> bool:
    """Whether the build has ended, or is gone."""
    try:
        return (await request.app[PARTS].stored_environments.builds.find(build.id)).is_finished
    except EnvironmentBuildUnknown:
        return True
