"""`condery role`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from registry.cli.command import Command, Group
from registry.cli.commands.accounts.opening import Force, by, moment, show_list, work_on
from registry.cli.display import echo
from registry.cli.options import AsJson, UsageError, takes_settings
from registry.settings.loading import LoadedSettings

if TYPE_CHECKING:
    from auth.accounts.bindings import HeldBinding, Holder

app = typer.Typer(cls=Group, help="Bind roles: say who may do what with which names.", no_args_is_help=True)

Binding = Annotated[
    str,
    typer.Argument(
        metavar="ENTITY=ROLE",
        help="What is granted, such as 'team/*=editor': the role on every name that the entity matches.",
    ),
]
User = Annotated[str | None, typer.Option("--user", metavar="NAME", help="For a person.")]
Robot = Annotated[str | None, typer.Option("--robot", metavar="NAME", help="For a robot.")]
InGroup = Annotated[str | None, typer.Option("--group", metavar="NAME", help="For everybody in a group.")]
Namespace = Annotated[
    str | None, typer.Option("--namespace", metavar="NAME", help="For everybody who may update all of a namespace.")
]


@app.command("bind", cls=Command)
@takes_settings("storage")
def bind(
    loaded: LoadedSettings,
    binding: Binding,
    user: User = None,
    robot: Robot = None,
    group: InGroup = None,
    namespace: Namespace = None,
) -> None:
    """Grant a role to a person, a robot, a group or a namespace."""
    holder = _holder(user, robot, group, namespace)
    _check_on_demand(binding, loaded.settings.builder.root)
    made = work_on(loaded, lambda opened: opened.bindings.bind(holder, binding, by=by()))
    echo(f"{holder.name} has {made}")


@app.command("unbind", cls=Command)
@takes_settings("storage")
def unbind(
    loaded: LoadedSettings,
    binding: Binding,
    user: User = None,
    robot: Robot = None,
    group: InGroup = None,
    namespace: Namespace = None,
    force: Force = False,
) -> None:
    """Take back what was granted with condery role bind."""
    holder = _holder(user, robot, group, namespace)
    work_on(loaded, lambda opened: opened.bindings.unbind(holder, binding, force=force, by=by()))
    echo(f"{holder.name} no longer has {binding}")


@app.command("list", cls=Command)
@takes_settings("storage")
def list_bindings(
    loaded: LoadedSettings,
    user: User = None,
    robot: Robot = None,
    group: InGroup = None,
    namespace: Namespace = None,
    json: AsJson = False,
) -> None:
    """List what was granted, to all or to one of them. What the settings grant is not in it."""
    named = any((user, robot, group, namespace))
    holder = _holder(user, robot, group, namespace) if named else None
    bindings = work_on(loaded, lambda opened: opened.bindings.list_all(holder))
    columns = ("kind", "name", "entity", "role", "created", "created_by")
    empty = "nothing was granted; grant something with: condery role bind --user NAME 'team/*=editor'"
    show_list(columns, map(_row, bindings), json=json, empty=empty)


def _check_on_demand(binding: str, root: str) -> None:
    """Raises UsageError: what is never asked for cannot be granted."""
    entity = binding.rpartition("=")[0]
    if entity.partition("/")[0] == root and entity != f"{root}/*":
        raise UsageError(f"images on demand are granted together: give {root}/* instead of {entity}")


def _row(binding: HeldBinding) -> tuple[str | None, ...]:
    from auth.binding import show_pattern

    role = binding.role if binding.known else f"{binding.role} (the settings have no such role, so it grants nothing)"
    holder = binding.holder
    return holder.kind, holder.name, show_pattern(binding.pattern), role, moment(binding.created), binding.created_by


def _holder(user: str | None, robot: str | None, group: str | None, namespace: str | None) -> Holder:
    from auth.accounts.bindings import Holder

    given = [
        *(Holder("account", name) for name in (user, robot) if name),
        *([Holder("group", group)] if group else []),
        *([Holder("namespace", namespace)] if namespace else []),
    ]
    if len(given) != 1:
        number = f"you gave {len(given)}" if given else "you gave none"
        raise UsageError(f"say for whom with exactly one of --user, --robot, --group and --namespace; {number}")
    return given[0]
