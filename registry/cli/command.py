"""Commands and groups of commands: how they show their help, and how they say what is wrong with their arguments.

The types of contexts, formatters and errors are private to typer, so they are Any here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import orjson
import typer
from typer.core import TyperCommand, TyperGroup

from registry.settings.model import all_settings
from storage.text import printable, printable_json

USAGE = 2
SETTINGS = "Settings"
SERVER = "Server"
JSON_FLAG = "--json"

USUAL = ("config", "data_directory", "host", "port", "channels", "platforms", "base", "log_level", "log_format")
"""Settings that every help text has; `--help-settings` has all."""
_ALL = "registry.cli: all settings"
"""A key of a context's `meta`: whether the help has every setting."""


def _show_all_settings(ctx: typer.Context, wanted: bool) -> None:
    if wanted:
        ctx.meta[_ALL] = True
        typer.echo(ctx.get_help())
        raise typer.Exit


HelpSettings = Annotated[
    bool,
    typer.Option(
        "--help-settings",
        help="Show this message with every setting that the command uses, and exit.",
        callback=_show_all_settings,
        is_eager=True,
        show_default=False,
    ),
]


class Command(TyperCommand):
    """A command whose help groups what it takes, has the usual settings alone, and never cuts a name."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Raises typer's errors, which are also told as JSON to whoever asked for JSON."""
        as_json = JSON_FLAG in args
        try:
            return super().make_context(info_name, args, parent, **extra)
        except typer.TyperException as error:
            if as_json and hasattr(error, "format_message"):
                write_json_error(error.format_message(), USAGE)
            raise

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            # pydantic's words, which are about its own inputs
            error.message = error.message.removeprefix("Value error, ").replace("Input should", "it must")
            raise
        except typer.TyperException as error:
            _tell_of_setting(error, ctx)
            raise

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The arguments as their help names them: `FILE`, `[NAMESPACE/]NAME`, `SPEC...`."""
        pieces = [self.options_metavar] if self.options_metavar else []
        return pieces + [_usage_of(each) for each in self.get_params(ctx) if each.param_type_name == "argument"]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": [], SERVER: [], SETTINGS: []}
        left_out = 0
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            heading = getattr(parameter, "rich_help_panel", None) or "Options"
            if record is None:
                continue
            if parameter.param_type_name == "argument":
                sections["Arguments"].append((_name_of(parameter), record[1]))
            elif heading != SETTINGS or parameter.name in USUAL:
                sections[heading].append(record)
            elif ctx.meta.get(_ALL):
                sections.setdefault(f"{SETTINGS} ({_section_of(parameter.name)})", []).append(record)
            else:
                left_out += 1
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)
        if left_out:
            formatter.write_paragraph()
            with formatter.indentation():
                formatter.write_text(f"{left_out} more settings are options of this command: --help-settings")


class Group(TyperGroup):
    """A list of commands, each with the whole first paragraph of its help."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, beginning(command.help or "")) for name, command in commands if command])


def write_json_error(message: str, code: int, detail: Mapping[str, Any] | None = None) -> None:
    """Print the failure of a command as a JSON document on standard output: what it would have printed otherwise."""
    document = {"error": {"message": printable(message), "exit_code": code, **(detail or {})}}
    text = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
    sys.stdout.write(printable_json(text))
    sys.stdout.flush()


def beginning(text: str) -> str:
    """The first paragraph as one line."""
    return " ".join(text.strip().partition("\n\n")[0].split())


def _tell_of_setting(error: Any, ctx: Any) -> None:
    """Say of an option that is another command's setting that this command does not use it."""
    option = getattr(error, "option_name", None)
    if option is None:
        return
    if error.possibilities == ["--help"]:
        # what is suggested for everything that begins with --h or --c
        error.possibilities = []
    from registry.cli.options import SHORT_FLAGS

    flags = {each.flag for each in all_settings()} | set(SHORT_FLAGS.values())
    if option in flags:
        error.message = f"{option} is a setting that `{ctx.command_path}` does not use; leave it out"


def _usage_of(argument: Any) -> str:
    name = _name_of(argument)
    return name if argument.required or name.startswith("[") else f"[{name}]"


def _name_of(argument: Any) -> str:
    name = str(argument.metavar or argument.name.upper())
    return f"{name}..." if argument.nargs != 1 else name


def _section_of(name: str) -> str:
    return next((each.section.replace("_", " ") for each in all_settings() if each.name == name), "others")
