"""`condery policy`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from registry.cli.command import Command, Group
from registry.cli.display import SafeConsole, echo, echo_json
from registry.cli.options import FAILED, AsJson, UsageError, fail, need_data, run_async, takes_settings
from registry.settings.loading import LoadedSettings
from registry.settings.model import Settings

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from builder.locks.lock import Lock

app = typer.Typer(cls=Group, help="Show, set and try the rules for what environments may hold.", no_args_is_help=True)

Name = Annotated[
    str | None,
    typer.Argument(metavar="[NAMESPACE]", help="Namespace; that of the on-demand names when unset."),
]


@app.command("show", cls=Command)
@takes_settings("builder", "storage", "policy", "log")
def show(loaded: LoadedSettings, namespace: Name = None, json: AsJson = False) -> None:
    """Print the rules that hold for a namespace, by where they are set."""
    from registry.logs.lines import configure

    configure(loaded.command_log)
    need_data(loaded.settings.data_directory)
    document = run_async(_find(loaded.settings, namespace or loaded.settings.builder.root))
    if json:
        echo_json(document)
        return
    for source, rules in document.items():
        echo(f"{source}:")
        for rule, value in rules.items():
            values = value if isinstance(value, list) else [value]
            echo(f"    {rule}: {'; '.join(map(str, values))}")
    if not document:
        echo("there are no rules")


async def _find(settings: Settings, namespace: str) -> dict[str, Any]:
    from registry.cli.commands.accounts.opening import check_namespace
    from registry.cli.local import open_service

    async with open_service(settings) as (store, service):
        await check_namespace(settings, store, namespace)
        policy = await service.builder.admission.policies.find(namespace)
        rules = {layer.source: dict(layer.written) for layer in policy.layers}
        if pushes := _push_rules(await store.catalog.policies.find(namespace)):
            rules.setdefault(f"the policy of namespace {namespace}", {}).update(pushes)
        return rules


def _push_rules(text: str | None) -> dict[str, Any]:
    from storage.quotas.namespace_rules import RULES

    document = orjson.loads(text or "{}")
    return {name: document[name] for name in RULES if document.get(name)}


@app.command("set", cls=Command)
@takes_settings("builder", "storage", "log")
def set_policy(
    loaded: LoadedSettings,
    namespace: Annotated[str, typer.Argument(metavar="NAMESPACE", help="Namespace, such as team.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON document of rules; - reads it from stdin.")],
) -> None:
    """Replace the policy of a namespace. It holds at once, also on a running server."""
    from builder.policy.policies import read_document
    from registry.logs.lines import configure

    configure(loaded.command_log)
    need_data(loaded.settings.data_directory)
    try:
        text = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        document = orjson.loads(text)
        read_document(document, namespace, loaded.settings.builder.channel_alias)
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: {getattr(error, 'strerror', None) or error}") from None
    if not run_async(_put(loaded.settings, namespace, orjson.dumps(document).decode())):
        fail(f"there is no namespace {namespace}; create it with: condery namespace create {namespace}", FAILED)
    echo(f"set the policy of namespace {namespace}{'' if document else ': it has no rules now'}")
    for pattern in _find_doubled(namespace, document):
        echo(f"note: {pattern} is about {namespace}/{pattern}; repositories are named below the namespace", err=True)


def _find_doubled(namespace: str, document: Any) -> list[str]:
    """The patterns that begin with the namespace, as in the setting, and so are about a folder of its name in it."""
    return [each for each in document.get("immutable_tags", ()) if each.startswith(f"{namespace}/")]


async def _put(settings: Settings, namespace: str, document: str) -> bool:
    """Whether there is such a namespace."""
    from auth.audit.log import append
    from registry.cli.commands.accounts.opening import by
    from storage.store import open_store

    actor = by()

    async def record(connection: AsyncConnection, _: None) -> None:
        # of a long one, the log keeps the beginning
        await append(connection, actor.did("policy.set", namespace, policy=document))

    async with open_store(settings.storage) as store:
        # the on-demand names have a namespace that nobody creates
        create = namespace == settings.builder.root
        return await store.catalog.policies.put(namespace, document, actor.name, create=create, record=record)


@app.command("check", cls=Command)
@takes_settings("builder", "storage", "policy", "log")
def check(
    loaded: LoadedSettings,
    specs: Annotated[
        list[str],
        typer.Argument(metavar="SPEC", help="Item as in image names, or conda match spec such as 'numpy>=2'."),
    ],
) -> None:
    """Solve specs by the rules for on-demand names, and print what is taken, or which rule refuses what."""
    from registry.logs.lines import configure

    settings = loaded.settings
    configure(loaded.command_log)
    lock = run_async(_check(settings, specs))
    for platform, packages in lock.packages.items():
        echo(f"allowed for {platform}:")
        for package in packages:
            echo(f"    {package}")


async def _check(settings: Settings, specs: list[str]) -> Lock:
    from builder.names import image_name
    from registry.cli.display import build_display
    from registry.cli.local import open_service

    root = f"{settings.builder.root}/"
    spec = image_name.parse_specs([each.removeprefix(root) for each in specs], settings.builder)
    async with open_service(settings) as (_, service):
        with build_display(SafeConsole(stderr=True)) as progress:
            return await service.lock(spec, progress)
