"""`condery serve`."""

from __future__ import annotations

from registry.cli.options import run_async, takes_settings
from registry.settings.loading import LoadedSettings
from registry.settings.model import SECTIONS, Settings


@takes_settings(*SECTIONS)
def serve(loaded: LoadedSettings) -> None:
    """Run the registry: `docker pull HOST:PORT/ROOT/numpy/scipy` makes an image.

    SIGTERM or SIGINT stops it: it finishes running requests, and resumes unfinished builds at the next start.
    """
    run_server(loaded.settings)


def run_server(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, with the configured number of processes."""
    from registry.logs.lines import configure
    from registry.logs.stream import never_waiting_stderr
    from registry.serving.listening import announce

    with never_waiting_stderr():
        configure(settings.log)
        if settings.http.processes == 1:
            from registry.serving.server import serve_until_stopped

            run_async(serve_until_stopped(settings, announce))
        else:
            from registry.serving.processes import serve_processes

            run_async(serve_processes(settings, announce))
