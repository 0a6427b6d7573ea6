"""All commands.

Modules of commands import what they need when they run, so that `condery --help` does not wait for the solver's.
"""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

import typer

from registry.cli import backup, build, demo, explain, gc, lock, sample_channel, serve, settings, verify

app = typer.Typer(
    name="condery",
    help="An OCI registry that makes conda images on demand: ask for an environment by name, get an image in seconds.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"condery {metadata.version('condery')}")
        raise typer.Exit


@app.callback()
def condery(
    version: Annotated[
        bool, typer.Option("--version", help="print the version and exit", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """An OCI registry that makes conda images on demand."""


app.command()(serve.serve)
app.command()(build.build)
app.command()(lock.lock)
app.command()(explain.explain)
app.command()(gc.gc)
app.command()(verify.verify)
app.command()(backup.backup)
app.command("sample-channel")(sample_channel.sample_channel)
app.command()(demo.demo)
app.add_typer(settings.app, name="settings")


def main() -> None:
    """The console script. Exit codes: 0 done, 1 failed, 2 usage."""
    app()
