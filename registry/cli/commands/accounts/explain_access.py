"""`condery explain-access`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from registry.cli.commands.accounts.opening import work_on
from registry.cli.display import echo, echo_json
from registry.cli.options import FAILED, AsJson, UsageError, takes_settings
from registry.settings.loading import LoadedSettings

if TYPE_CHECKING:
    from auth.access import Decision
    from auth.binding import Binding
    from auth.permission import Permission
    from auth.principal import Principal
    from registry.access.accounts import OpenedAccounts

ANONYMOUS = "anonymous"


@dataclass(frozen=True)
class _Question:
    name: str
    permission: Permission
    entity: str


@takes_settings("storage")
def explain_access(
    loaded: LoadedSettings,
    user: Annotated[
        str, typer.Argument(metavar="USER", help="A person, a robot, or anonymous for who does not sign in.")
    ],
    permission: Annotated[
        str, typer.Argument(metavar="PERMISSION", help="pull, push or delete, or another one such as audit::read.")
    ],
    entity: Annotated[
        str, typer.Argument(metavar="ENTITY", help="NAMESPACE/NAME as in the name of an image, or a namespace alone.")
    ],
    json: AsJson = False,
) -> None:
    """Say whether somebody may do something, and which binding decides it.

    Settings decide as well, such as roles, and what anonymous may. The command says whose settings it took; --config
    takes those of the server. Exit codes: 0 for who may, 1 for who may not.
    """
    question = _Question(user, _read_permission(permission), _read_entity(entity, loaded.settings.builder.root))
    document = work_on(loaded, lambda opened: _explain(opened, question))
    if json:
        echo_json({**document, "settings": None if loaded.file is None else str(loaded.file)})
    else:
        echo(str(document["because"]))
        if document["fix"]:
            echo(f"to grant it: {document['fix']}")
        echo(_tell_settings(loaded), err=True)
    if not document["granted"]:
        raise typer.Exit(FAILED)


def _tell_settings(loaded: LoadedSettings) -> str:
    """By whose settings it was decided."""
    if loaded.file is not None:
        return f"by the settings of {loaded.file}; a server with others decides by its own"
    return "by this command's own settings, as no settings file was named or found; --config takes the server's"


def _read_permission(text: str) -> Permission:
    from auth.permission import parse_permission

    try:
        return parse_permission(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _read_entity(text: str, root: str) -> str:
    """As the server asks for it: all images on demand are one."""
    from auth.binding import check_case, check_pattern

    try:
        check_pattern(text if "/" in text else f"{text}/*")
        check_case(text)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return f"{root}/*" if text.partition("/")[0] == root else text


async def _explain(opened: OpenedAccounts, question: _Question) -> dict[str, object]:
    from auth.access import explain

    asked = await _find(opened, question.name)
    decision = explain(asked.principal, question.permission, question.entity)
    granted = decision.granted and not asked.refused
    void = [] if granted or asked.refused else await _find_void(opened, question, asked)
    return {
        "granted": granted,
        "because": asked.refused or "; ".join([_because(question, decision, asked), *void]),
        "binding": str(decision.binding) if decision.binding else None,
        "source": decision.binding.source if decision.binding else None,
        "fix": None if granted or asked.refused else _fix(question, decision, asked),
    }


@dataclass(frozen=True)
class _Asked:
    """Who the question is about."""

    principal: Principal
    owner: str | None = None
    """The name of a robot's owner."""
    refused: str = ""
    """Why they may do nothing at all, if so."""


async def _find(opened: OpenedAccounts, name: str) -> _Asked:
    """Raises AccountUnknown."""
    if name == ANONYMOUS:
        return _Asked(await opened.principals.anonymous())
    account = await opened.accounts.find(name)
    loaded = await opened.principals.load(account.id)
    assert loaded is not None, "the account was just found"
    owner = next((each.name for each in await opened.accounts.list_all() if each.id == account.owner), None)
    whose = f"{name} or its owner {owner}" if owner else name
    refused = ""
    if loaded.is_refused(time.time()):
        refused = f"{name} may do nothing: {whose} is disabled or has expired; see condery {_list_of(account.kind)}"
    return _Asked(loaded.principal, owner, refused)


async def _find_void(opened: OpenedAccounts, question: _Question, asked: _Asked) -> list[str]:
    """What of theirs is bound there and grants nothing, since the settings do not have its role."""
    from auth.access import may
    from auth.accounts.bindings import Holder
    from auth.accounts.loading import SHARING
    from auth.binding import Binding
    from auth.role import VIEWER

    names = {question.name, asked.owner} - {None}
    held = {Holder("account", name) for name in names if name}
    held |= {Holder("group", each.name) for each in await opened.groups.list_all() if names.intersection(each.members)}
    void = []
    for row in await opened.bindings.list_all():
        if row.known or not Binding(row.pattern, VIEWER).matches(question.entity):
            continue
        if row.holder in held or (row.holder.kind == "namespace" and may(asked.principal, SHARING, row.holder.name)):
            void.append(f"{row} (bound to the {row.holder}) grants nothing: the settings have no role {row.role}")
    return void


def _list_of(kind: str) -> str:
    return "robot list" if kind == "robot" else "user list"


def _because(question: _Question, decision: Decision, asked: _Asked) -> str:
    what = f"{question.permission} on {question.entity}"
    no = f"{question.name} may not {what}"
    if decision.binding is not None and decision.limited:
        return f"{no}: {_tell(decision.binding)} grants it, but its owner {asked.owner} may not do it either"
    if decision.binding is not None:
        return f"{question.name} may {what}: {_tell(decision.binding)} grants it"
    if decision.near:
        return f"{no}: there is {', '.join(map(_tell, decision.near))}, which has less"
    return f"{no}: nothing was granted there"


def _tell(binding: Binding) -> str:
    return f"{binding} ({binding.source})" if binding.source else str(binding)


def _fix(question: _Question, decision: Decision, asked: _Asked) -> str:
    """What would grant it, and no more than it has to."""
    from auth.role import ADMIN, EDITOR, VIEWER

    role = next(each for each in (VIEWER, EDITOR, ADMIN) if question.permission in each.permissions)
    pattern = question.entity if "/" in question.entity else f"{question.entity}/*"
    if asked.principal.kind == "anonymous":
        return f"add {pattern}={role.name} to the setting anonymous_bindings"
    if decision.limited:
        return f"condery role bind --user {asked.owner} '{pattern}={role.name}'"
    option = "--robot" if asked.principal.kind == "robot" else "--user"
    return f"condery role bind {option} {question.name} '{pattern}={role.name}'"
