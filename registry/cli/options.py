"""What all commands share: settings as flags, and errors as one line and an exit code."""

from __future__ import annotations

import asyncio
import inspect
import os
import select
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from registry.cli.command import SETTINGS, USAGE, USUAL, HelpSettings, write_json_error
from registry.settings.loading import is_switched_on, load
from registry.settings.model import Setting, all_settings
from storage.disk.privacy import OWNER_ONLY, masked
from storage.errors import ConderyError
from storage.text import printable, redact

FAILED = 1
INTERRUPTED = 130

SHORT_FLAGS = {"channels": "--channel", "platforms": "--platform", "data_directory": "--data-dir"}
"""A second, shorter flag for some settings."""

AsJson = Annotated[bool, typer.Option("--json", help="Print a JSON document.")]

BUILD_COMMANDS = ("list", "show", "logs", "cancel")
"""Commands below `condery build`. A package that is called so has an operator there: `'list>=0'`."""


def complete_build(incomplete: str) -> list[str]:
    return [name for name in BUILD_COMMANDS if name.startswith(incomplete)]


_SPEC_HELP = "Item as in image names, conda match spec such as 'numpy>=2', or one file such as environment.yaml."

Specs = Annotated[list[str], typer.Argument(metavar="SPEC", help=_SPEC_HELP)]
BuildSpecs = Annotated[list[str], typer.Argument(metavar="SPEC", help=_SPEC_HELP, autocompletion=complete_build)]

T = TypeVar("T")


class Detailed(ConderyError):
    """A failure of which programs are told more than its sentence."""

    def __init__(self, message: str, detail: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.detail = detail


class UsageError(ConderyError):
    """The command line is invalid; the command ends with exit code 2."""

    is_mistake = True


def need_data(directory: Path) -> None:
    """Raise UsageError if there is no data directory: a command that reads one must not create an empty one."""
    if not directory.is_dir():
        raise UsageError(f"there is no data directory {directory}; give the server's with --data-dir")


def takes_settings(*sections: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a command of a function whose first parameter is `loaded: LoadedSettings`, followed by its own.

    The command gets `--config`, `--debug` and a flag for every setting of `sections` that may have one.
    """
    settings = [setting for setting in all_settings() if setting.section in sections and setting.has_flag]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        parameters = [*own, _config_option(), _debug_option(), *(_option(setting) for setting in settings)]
        if not {setting.name for setting in settings} <= set(USUAL):
            parameters.append(_parameter("help_settings", HelpSettings, False))

        def command(config: Path | None, debug: bool, help_settings: bool = False, **arguments: Any) -> None:
            flags = {setting.name: arguments.pop(setting.name) for setting in settings}
            as_json = arguments.get("json") is True
            run_reporting(lambda: function(load(flags, config), **arguments), debug=debug, as_json=as_json)

        _set_signature(command, function, parameters)
        return command

    return decorate


def reports_errors(function: Callable[..., None]) -> Callable[..., None]:
    """Make a command of a function that needs no settings; the command gets `--debug`."""
    own = list(inspect.signature(function, eval_str=True).parameters.values())

    def command(debug: bool, **arguments: Any) -> None:
        run_reporting(lambda: function(**arguments), debug=debug, as_json=arguments.get("json") is True)

    _set_signature(command, function, [*own, _debug_option()])
    return command


def run_reporting(call: Callable[[], None], *, debug: bool, as_json: bool = False) -> None:
    """Run a command; an error becomes one line on stderr and an exit code, or a traceback with `debug`.

    With `as_json` a JSON document on stdout says it as well.
    """
    if debug or is_switched_on("debug"):
        call()
        return
    try:
        call()
        sys.stdout.flush()
    except BrokenPipeError as error:
        if is_cut_off():
            raise typer.Exit(FAILED) from None
        fail(str(error), FAILED, as_json=as_json)
    except ConderyError as error:
        detail = error.detail if isinstance(error, Detailed) else None
        fail(str(error), USAGE if error.is_mistake else FAILED, as_json=as_json, detail=detail)
    except OSError as error:
        fail(str(error), FAILED, as_json=as_json)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def fail(message: str, code: int, *, as_json: bool = False, detail: Mapping[str, Any] | None = None) -> None:
    message = printable(redact(message))
    if as_json:
        write_json_error(message, code, detail)
    sys.stderr.write(f"condery: {message}\n")
    raise typer.Exit(code)


def is_cut_off() -> bool:
    """Whether nobody reads what is printed any more, such as `head` after ten lines. Nothing more is printed then."""
    poll = select.poll()
    try:
        sys.stdout.flush()
        poll.register(sys.stdout, 0)
        ended = any(event & select.POLLERR for _, event in poll.poll(0))
    except BrokenPipeError:
        ended = True
    except (OSError, ValueError):
        # it is no file, or closed
        return False
    if ended:
        # the interpreter flushes it at its end, and would show a traceback
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ended


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on uvloop, as the server does. Files that it writes are readable by the owner alone."""
    import uvloop

    with masked(OWNER_ONLY), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def _set_signature(command: Any, function: Callable[..., None], parameters: list[inspect.Parameter]) -> None:
    """Set what Typer reads: the signature for the order and the annotations for the types."""
    command.__name__ = function.__name__
    command.__doc__ = function.__doc__
    command.__signature__ = inspect.Signature(
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}


def _parameter(name: str, annotation: Any, default: object = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _option(setting: Setting) -> inspect.Parameter:
    names = [setting.flag, *([SHORT_FLAGS[setting.name]] if setting.name in SHORT_FLAGS else [])]
    default = f" [default: {setting.default}]" if setting.default else ""
    shared: dict[str, Any] = {
        "help": setting.description + default,
        "show_default": False,
        "rich_help_panel": SETTINGS,
    }
    if setting.is_flag:
        option = typer.Option(f"{setting.flag}/{setting.no_flag}", **shared)
        return _parameter(setting.name, Annotated[bool | None, option])
    option = typer.Option(*names, metavar=setting.kind.upper(), **shared)
    return _parameter(setting.name, Annotated[list[str] | None if setting.is_list else str | None, option])


def _config_option() -> inspect.Parameter:
    option = typer.Option(
        "--config", metavar="PATH", help="Settings file (TOML).", show_default=False, rich_help_panel=SETTINGS
    )
    return _parameter("config", Annotated[Path | None, option])


def _debug_option() -> inspect.Parameter:
    option = typer.Option("--debug", help="Show a traceback when the command fails.", show_default=False)
    return inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, option])
