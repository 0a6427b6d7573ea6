"""Follows a build to its end, with its log printed meanwhile."""

from __future__ import annotations

import asyncio

from registry.cli.display import echo
from registry.cli.environments.place import Place
from registry.cli.environments.shown import ShownBuild
from storage.errors import ConderyError

POLL_SECONDS = 0.3


class BuildUnsuccessful(ConderyError):
    """A build that a command waited for made nothing."""

    def __init__(self, build: ShownBuild) -> None:
        reason = build.info or "it does not say why"
        super().__init__(f"build {build.id} of {build.environment} is {build.status}: {reason}")


async def follow_to_end(place: Place, build: int, *, err: bool) -> ShownBuild:
    """The build when it has ended; whoever breaks off is told what becomes of it. Raises BuildUnsuccessful."""
    try:
        async for line in place.read_log(build, follow=True):
            echo(line, err=err)
        # the log ends a moment before the build does
        ended = await place.find_build(build)
        while not ended.is_finished:
            await asyncio.sleep(POLL_SECONDS)
            ended = await place.find_build(build)
    except asyncio.CancelledError:
        echo(
            f"build {build} {place.left}; follow it with `condery build logs -f {build}`, end it with "
            f"`condery build cancel {build}`",
            err=True,
        )
        raise
    if not ended.is_complete:
        raise BuildUnsuccessful(ended)
    return ended
