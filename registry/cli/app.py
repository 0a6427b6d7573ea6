"""The command-line application with all commands.

A command's module is imported when the command is asked for, and imports what it needs when the command runs, so that
no command waits for the others' parts, and `condery --help` does not wait for the solver.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module, metadata
from typing import Annotated, Any

import typer
from typer.main import get_group

from registry.cli.build_command import BuildCommand
from registry.cli.command import Command, Group
from registry.cli.options import is_cut_off
from registry.settings.secrecy import hide_secrets

COMMANDS: Mapping[str, str] = {
    "serve": "serve:serve",
    "build": "build:build",
    "lock": "lock:lock",
    "explain": "explain:explain",
    "env": "environments.app:app",
    "gc": "gc:gc",
    "audit": "audit:audit",
    "verify": "verify:verify",
    "backup": "backup:backup",
    "sample-channel": "sample_channel:sample_channel",
    "demo": "demo:demo",
    "login": "login:login",
    "logout": "login:logout",
    "explain-access": "accounts.explain_access:explain_access",
    "settings": "settings:app",
    "policy": "policy:app",
    "user": "accounts.user:app",
    "group": "accounts.group:app",
    "robot": "accounts.robot:app",
    "token": "accounts.token:app",
    "role": "accounts.role:app",
    "namespace": "accounts.namespace:app",
    "credential": "accounts.credential:app",
    "vault": "accounts.vault:app",
}
"""Where each is below `registry.cli.commands`: a function, or an application with more commands."""


CLASSES: Mapping[str, type[Command]] = {"build": BuildCommand}


class Commands(Group):
    """A group that makes each command when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """`ctx` and the result are Any because their types are private to typer."""
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            self.commands[cmd_name] = _command(cmd_name)
        return self.commands.get(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS:
            # typer suggests one of those that were made
            for name in COMMANDS:
                self.get_command(ctx, name)
        return super().resolve_command(ctx, args)


def _application(cls: type[Group], *, completes: bool = False) -> typer.Typer:
    return typer.Typer(
        name="condery",
        cls=cls,
        help="An OCI registry that makes conda images on demand: ask for an environment by name, get an image in"
        " seconds.",
        no_args_is_help=True,
        add_completion=completes,
        pretty_exceptions_enable=False,
        # rich's tables would cut names that are longer than their column
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def _command(name: str) -> Any:
    module, _, attribute = COMMANDS[name].partition(":")
    found = getattr(import_module(f"registry.cli.commands.{module}"), attribute)
    holder = _application(Group)
    if isinstance(found, typer.Typer):
        holder.add_typer(found, name=name)
    else:
        holder.command(name, cls=CLASSES.get(name, Command))(found)
    return get_group(holder).commands[name]


app = _application(Commands, completes=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"condery {metadata.version('condery')}")
        raise typer.Exit


@app.callback()
def condery(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """An OCI registry that makes conda images on demand."""


def main() -> None:
    """The console script. Exit codes: 0 done, 1 failed, 2 a setting or an argument has to be another."""
    hide_secrets()
    try:
        app()
    finally:
        is_cut_off()
