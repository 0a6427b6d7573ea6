"""How a running build is shown: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import IO, Any

import orjson
import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.text import Text

from builder.progress import Event, Stage
from builder.progress import Progress as OnProgress
from storage.text import printable, printable_json

DETAIL_WIDTH = 40
REASON_WIDTH = 80
_UNITS = {"inspect": " packages", "layers": " layers"}


class SafeConsole(Console):
    """A console for text that others wrote: it interprets no markup, and writes out control characters."""

    def __init__(self, *, stderr: bool = False, highlight: bool = True, file: IO[str] | None = None) -> None:
        super().__init__(stderr=stderr, highlight=highlight, markup=False, file=file)

    def render_str(self, text: str, **options: Any) -> Text:
        """Write out control characters before the text is measured, so that it gets the room it takes."""
        return super().render_str(printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def echo(text: str, *, err: bool = False) -> None:
    """Print a line that may quote text that others wrote."""
    typer.echo(printable(text), err=err)


def echo_json(document: object) -> None:
    """Print a JSON document, indented."""
    typer.echo(printable_json(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()))


@contextlib.contextmanager
def build_display(console: Console) -> Iterator[OnProgress]:
    """Yield a Progress for a build, shown on `console` until the block ends."""
    if not console.is_terminal:
        yield PlainLines(console)
        return
    with live_bars(console) as bars:
        yield bars


@contextlib.contextmanager
def live_bars(console: Console) -> Iterator[LiveBars]:
    """Yield bars that `console`, a terminal, shows until the block ends."""
    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description:<9}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[amount]:>20}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}", style="dim", markup=False),
    )
    with Progress(*columns, console=console) as bars:
        yield LiveBars(bars)


class LiveBars:
    """One bar per stage, in the order in which stages begin."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[Stage, TaskID] = {}
        self._wait: TaskID | None = None

    def end(self, stage: Stage) -> None:
        """Fill the bar of a stage that has ended, of which nobody may have known how much there is."""
        if stage in self._tasks:
            self._bars.update(self._tasks[stage], completed=1, total=1, detail="")

    def wait(self, reason: str | None) -> None:
        """Say in a row of its own what the build waits for; None ends that."""
        if self._wait is not None:
            self._bars.remove_task(self._wait)
        self._wait = None
        if reason is not None:
            self._wait = self._bars.add_task("waiting", total=None, amount="", detail=reason[:REASON_WIDTH])

    def __call__(self, event: Event) -> None:
        if event.stage not in self._tasks:
            self._tasks[event.stage] = self._bars.add_task(event.stage, total=None, amount="", detail="")
        self._bars.update(
            self._tasks[event.stage],
            completed=event.done,
            total=event.total or None,
            amount=amount(event),
            detail="" if _has_ended(event) else event.detail[:DETAIL_WIDTH],
        )


class PlainLines:
    """One line when a stage begins and one when it ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started: dict[Stage, float] = {}
        self._has_ended: set[Stage] = set()

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        if event.stage not in self._started:
            self._started[event.stage] = now
            if not _has_ended(event):
                self._line(f"{event.stage} ...")
        if _has_ended(event) and event.stage not in self._has_ended:
            self._has_ended.add(event.stage)
            self._line(f"{event.stage} done: {amount(event)} in {now - self._started[event.stage]:.1f} s")

    def _line(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)


def _has_ended(event: Event) -> bool:
    return event.total > 0 and event.done >= event.total


def amount(event: Event) -> str:
    """`3 of 7 packages`, or megabytes for downloads."""
    if event.stage == "download":
        return f"{event.done / 1e6:.1f} of {event.total / 1e6:.1f} MB"
    return f"{event.done} of {event.total}{_UNITS.get(event.stage, '')}"
