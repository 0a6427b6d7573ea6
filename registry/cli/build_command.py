"""`condery build SPEC...`, which also has commands of its own: `condery build list`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from typer.main import get_group

from registry.cli.command import Command
from registry.cli.options import BUILD_COMMANDS


class BuildCommand(Command):
    """A command whose first argument may be the name of another one, about builds of environments.

    The types of contexts are private to typer.
    """

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        if args and args[0] in BUILD_COMMANDS:
            return self.builds.make_context(info_name, args, parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    @property
    def builds(self) -> Any:
        """The group of the other commands."""
        return get_group(import_module("registry.cli.commands.environments.builds").app)

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        super().format_usage(ctx, formatter)
        formatter.write_usage(ctx.command_path, f"{{{'|'.join(BUILD_COMMANDS)}}} [ARGS]...", prefix="       ")

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        super().format_help_text(ctx, formatter)
        # above the options, which are many
        self.builds.format_commands(ctx, formatter)
