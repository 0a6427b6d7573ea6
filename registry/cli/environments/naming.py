"""Environments and builds as people name them on the command line."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from registry.cli.environments.place import Place
from registry.cli.environments.shown import ShownEnvironment
from registry.cli.options import UsageError

LARGEST_BUILD = 2**31 - 1
_NUMBER = re.compile(r"[0-9]{1,10}")


def complete_environment(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names for a shell that completes them; none if they cannot be had quickly."""
    from registry.cli.environments.completion import list_names

    return list_names(ctx.params, incomplete)


EnvironmentName = Annotated[
    str,
    typer.Argument(metavar="[NAMESPACE/]NAME", help="Name of the environment.", autocompletion=complete_environment),
]
Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        metavar="NAMESPACE",
        help="Namespace of the environment. Default: `default` in the local store, your own at a server.",
        show_default=False,
    ),
]
BuildName = Annotated[
    str,
    typer.Argument(
        metavar="BUILD", help="Number of a build, or [NAMESPACE/]NAME for the last build of an environment."
    ),
]
Limit = Annotated[int, typer.Option("--limit", min=1, max=100_000, help="Number of rows, the newest first.")]


async def choose_namespace(place: Place, namespace: str | None) -> str:
    """Raises UsageError."""
    from auth.accounts.names import is_name

    chosen = namespace or await place.find_namespace()
    if not is_name(chosen):
        raise UsageError(f"{chosen} is not the name of a namespace: a-z, 0-9 and single . _ - inside")
    return chosen


async def find_environment(place: Place, text: str, namespace: str | None = None) -> ShownEnvironment:
    """The environment that somebody names. Raises UsageError, EnvironmentUnknown, ServerRefused."""
    namespace, name = read_environment_name(text, namespace)
    return await place.find(await choose_namespace(place, namespace), name)


def read_environment_name(text: str, namespace: str | None = None) -> tuple[str | None, str]:
    """The namespace, if somebody names one there or beside it, and the name. Raises UsageError."""
    from builder.environments.inputs.environment_file import NAME

    before, slash, name = text.rpartition("/")
    if slash and namespace not in (None, before):
        raise UsageError(f"{text} is not in the namespace {namespace}; name it once")
    if not NAME.fullmatch(name):
        raise UsageError(f"{text} is not the name of an environment: [NAMESPACE/]NAME")
    return before if slash else namespace, name


async def find_build_id(place: Place, text: str) -> int:
    """The number of the build that somebody names: by itself, or the last one of an environment."""
    if _NUMBER.fullmatch(text):
        return read_build(text)
    return (await find_environment(place, text)).last_build


def read_build(text: str) -> int:
    """Raises UsageError."""
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= LARGEST_BUILD:
        raise UsageError(f"{text} is not the number of a build; `condery build list` has them")
    return int(text)
