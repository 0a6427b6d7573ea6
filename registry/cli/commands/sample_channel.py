"""`condery sample-channel`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from registry.cli.display import SafeConsole
from registry.cli.options import reports_errors
from registry.settings.directories import cache_directory

if TYPE_CHECKING:
    from builder.sample_channel import ChannelSummary, Step
    from builder.sample_channel import Progress as OnProgress


@reports_errors
def sample_channel(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the channel; it may exist already.")],
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with", metavar="NAME", help="Another PyPI project to include, with its dependencies; may be repeated."
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Directory that caches wheels. [default: ~/.cache/condery/wheels]", show_default=False
        ),
    ] = None,
) -> None:
    """Make a real conda channel from PyPI wheels and this Python, for machines that cannot reach a channel.

    An interrupted run is resumed. Once the wheels are cached, no network is needed.
    """
    from builder.sample_channel import DEFAULT

    summary = make(directory, [*DEFAULT, *(with_ or [])], cache)
    typer.echo(
        f"{len(summary.made)} packages made, {len(summary.kept)} kept, {summary.size / 1e6:.0f} MB in {directory}"
    )
    if summary.missing_libraries:
        typer.echo(
            f"packages need these libraries, which this machine does not have: {', '.join(summary.missing_libraries)}"
        )
    typer.echo(f"use it: condery serve --channels {directory.resolve().as_uri()}")


def make(directory: Path, names: Sequence[str], cache: Path | None = None) -> ChannelSummary:
    """Make the channel in `directory`, with a progress display on stderr."""
    from builder.sample_channel import make_channel

    with _display() as report:
        return make_channel(directory, names, report, cache=cache or cache_directory() / "wheels")


@contextmanager
def _display() -> Iterator[OnProgress]:
    console = SafeConsole(stderr=True, highlight=False)
    if not console.is_terminal:
        seen: set[str] = set()

        def print_stage(step: Step) -> None:
            if step.stage not in seen:
                seen.add(step.stage)
                console.print(f"sample channel: {step.stage} ...")

        yield print_stage
        return
    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}", style="dim", markup=False),
    )
    with Progress(*columns, console=console) as bars:
        tasks = {
            name: bars.add_task(name, total=None, start=False, detail="") for name in ("wheels", "packages", "index")
        }

        def show(step: Step) -> None:
            bars.start_task(tasks[step.stage])
            bars.update(tasks[step.stage], completed=step.done, total=step.total or None, detail=step.detail[:40])

        yield show
