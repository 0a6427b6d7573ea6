"""`condery demo`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from registry.cli.options import takes_settings
from registry.settings.loading import LoadedSettings
from registry.settings.model import SECTIONS


@takes_settings(*SECTIONS)
def demo(
    loaded: LoadedSettings,
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Directory of the sample channel and of the server's data.")
    ] = Path("demo"),
    once: Annotated[
        bool, typer.Option("--once", help="Pull an image, run its python, check the result, and stop.")
    ] = False,
    docker: Annotated[
        bool | None,
        typer.Option(
            "--docker/--no-docker",
            help="With --once: pull and run with docker, or unpack the layers. Default: docker if its daemon answers.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve images that are made from a sample channel; PyPI is the only network access."""
    from builder.sample_channel import DEFAULT
    from registry.cli.commands.sample_channel import make
    from registry.cli.commands.serve import run_server
    from registry.cli.demonstration import PACKAGES, demo_settings, try_once
    from registry.serving.listening import check_free

    settings = demo_settings(loaded, directory, once=once)
    # the channel takes minutes, and another demonstration may use it
    check_free(settings.http.host, settings.http.port)
    make(directory / "channel", PACKAGES if once else DEFAULT)
    if once:
        asyncio.run(try_once(settings, typer.echo, with_docker=docker))
    else:
        run_server(settings)
