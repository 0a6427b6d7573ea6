"""The command-line application with all commands.

A command's module imports what it needs only when it runs, so that `condery --help` does not wait for the solver.
"""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

import typer

from registry.cli.commands import (
    audit,
    backup,
    build,
    demo,
    explain,
    gc,
    lock,
    login,
    policy,
    sample_channel,
    serve,
    settings,
    verify,
)
from registry.cli.commands.accounts import (
    credential,
    explain_access,
    group,
    namespace,
    robot,
    role,
    token,
    user,
    vault,
)
from registry.cli.options import Command, Group

app = typer.Typer(
    name="condery",
    cls=Group,
    help="An OCI registry that makes conda images on demand: ask for an environment by name, get an image in seconds.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # rich's tables would cut names that are longer than their column
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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


app.command(cls=Command)(serve.serve)
app.command(cls=Command)(build.build)
app.command(cls=Command)(lock.lock)
app.command(cls=Command)(explain.explain)
app.command(cls=Command)(gc.gc)
app.command(cls=Command)(audit.audit)
app.command(cls=Command)(verify.verify)
app.command(cls=Command)(backup.backup)
app.command("sample-channel", cls=Command)(sample_channel.sample_channel)
app.command(cls=Command)(demo.demo)
app.add_typer(settings.app, name="settings")
app.add_typer(policy.app, name="policy")
app.add_typer(user.app, name="user")
app.add_typer(group.app, name="group")
app.add_typer(robot.app, name="robot")
app.add_typer(token.app, name="token")
app.add_typer(role.app, name="role")
app.add_typer(namespace.app, name="namespace")
app.add_typer(credential.app, name="credential")
app.add_typer(vault.app, name="vault")
app.command(cls=Command)(login.login)
app.command(cls=Command)(login.logout)
app.command("explain-access", cls=Command)(explain_access.explain_access)


def main() -> None:
    """The console script. Exit codes: 0 done, 1 failed, 2 usage."""
    app()
