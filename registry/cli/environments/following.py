"""Follows a build to its end: with bars on a terminal, the lines of its log elsewhere, or without a word."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Literal, get_args

from builder.progress import Event, Stage
from registry.cli.display import LiveBars, SafeConsole, echo, live_bars
from registry.cli.options import Detailed
from storage.errors import ConderyError

if TYPE_CHECKING:
    from registry.cli.environments.place import Place
    from registry.cli.environments.shown import ShownBuild, ShownEvent

POLL_SECONDS = 0.3

Telling = Literal["log", "progress", "nothing"]
"""What is told meanwhile: the log on standard output, progress on standard error, or nothing."""

STAGES: tuple[Stage, ...] = get_args(Stage)


class BuildUnsuccessful(Detailed):
    """A build that a command waited for made nothing; `current` is the complete build that its environment has."""

    def __init__(self, build: ShownBuild, current: int | None = None) -> None:
        reason = build.info or "it does not say why"
        message = f"build {build.id} of {build.environment} is {build.status}: {reason}"
        if current is not None:
            message += f"{'' if message.endswith(('.', '?', '!')) else '.'} Build {current} stays the current one"
        super().__init__(message, {"build": build.to_json(), "current_build": current})


async def follow_to_end(place: Place, build: int, telling: Telling) -> ShownBuild:
    """The build when it has ended; whoever breaks off is told what becomes of it. Raises BuildUnsuccessful."""
    try:
        await _tell(place, build, telling)
        # the log ends a moment before the build does
        ended = await place.find_build(build)
        while not ended.is_finished:
            await asyncio.sleep(POLL_SECONDS)
            ended = await place.find_build(build)
    except asyncio.CancelledError:
        echo(
            f"build {build} has not ended. {place.left}. `condery build logs -f {build}` follows it, "
            f"`condery build cancel {build}` ends it",
            err=True,
        )
        raise
    if not ended.is_complete:
        raise BuildUnsuccessful(ended, await _find_current(place, ended))
    return ended


async def _tell(place: Place, build: int, telling: Telling) -> None:
    console = SafeConsole(stderr=True)
    if telling == "progress" and console.is_terminal:
        with live_bars(console) as bars:
            async for event in place.read_events(build):
                show_event(bars, event)
        return
    async for line in place.read_log(build, follow=True):
        if telling != "nothing":
            echo(line, err=telling == "progress")


def show_event(bars: LiveBars, event: ShownEvent) -> None:
    """Show what happens to a build. What a server of another version says is left out."""
    data = event.data
    bars.wait(event.text if event.kind == "waiting" and data.get("status") is None else None)
    stage = next((each for each in STAGES if each == data.get("stage")), None)
    done, total, detail = data.get("done"), data.get("total"), data.get("detail")
    if stage is None or not isinstance(done, int) or not isinstance(total, int):
        return
    bars(Event(stage, done, total, detail if isinstance(detail, str) else ""))
    if data.get("status") == "ended":
        bars.end(stage)


async def _find_current(place: Place, build: ShownBuild) -> int | None:
    """The complete build that the environment of another one has, if it has one."""
    namespace, _, name = build.environment.partition("/")
    with contextlib.suppress(ConderyError):
        current = (await place.find(namespace, name)).current_build
        if current != build.id and (await place.find_build(current)).is_complete:
            return current
    return None
