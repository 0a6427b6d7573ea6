"""Environments in the local store. Whoever can open it may do everything, and the audit log tells of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from auth.audit.log import append, name_build
from registry.cli.commands.accounts.opening import by
from registry.cli.environments.shown import (
    BuildQuery,
    EnvironmentQuery,
    ShownAlarm,
    ShownBuild,
    ShownEnvironment,
    ShownEvent,
    ShownPackage,
    Written,
)
from storage.environments.log_following import LogFollowing
from storage.environments.log_record import read_records
from storage.environments.on_disk import add_problem
from storage.environments.vocabulary import BuildFilter, BuildStatus, EnvironmentFilter, Paging
from storage.errors import BuildStateWrong

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from auth.audit.actor import Actor
    from builder.environments.life import NamedEnvironments
    from registry.settings.model import Settings
    from storage.environments.lists.scope import Scope
    from storage.environments.logs import Page
    from storage.environments.vocabulary import Environment, EnvironmentBuild
    from storage.events.outbox import Record
    from storage.store import Store

DEFAULT_NAMESPACE = "default"
LOOK_SECONDS = 1.0
"""Between two looks at whether a build has ended whose log says nothing."""
LAST_SECONDS = 2.0
"""For what was written just before a build ended."""


@dataclass(frozen=True)
class Here:
    """`named` is None for commands that build nothing."""

    settings: Settings
    store: Store
    named: NamedEnvironments | None = None
    actor: Actor = field(default_factory=by)

    @property
    def host(self) -> str:
        http = self.settings.http
        return f"{'localhost' if http.is_for_this_machine else http.host}:{http.port}"

    @property
    def files(self) -> str:
        return f"http://{self.host}/files"

    @property
    def waits(self) -> bool:
        return True

    @property
    def left(self) -> str:
        return "A server on this data directory builds it: at once if it runs, else when `condery serve` starts it"

    async def find_namespace(self) -> str:
        return DEFAULT_NAMESPACE

    async def ask(self, written: Written) -> int:
        from auth.accounts.names import Names
        from builder.environments.repository import write_repository
        from registry.http.references import check_repository

        named = self._named
        Names(self.settings.builder.root).check("a namespace", written.namespace)
        check_repository(write_repository(written.namespace, written.name))
        # what the file leaves open may be set for the namespace
        wanted = await named.wanted.read(written.text.encode(), named.builder.pool, written.namespace, written.name)
        build = await named.create(
            written.namespace,
            written.name,
            wanted,
            by=self.actor.name,
            description=written.description,
            record=self._record_build,
        )
        return build.id

    async def ask_again(self, build: int) -> int:
        return (await self._named.rebuild(build, by=self.actor.name, record=self._record_rebuild)).id

    async def find(self, namespace: str, name: str) -> ShownEnvironment:
        return show_environment(await self.store.environments.environments.find(namespace, name))

    async def list_environments(self, query: EnvironmentQuery) -> Sequence[ShownEnvironment]:
        status = BuildStatus(query.status) if query.status else None
        which = EnvironmentFilter(query.namespace, None, query.search, status, query.packages)
        paging = Paging(sort="namespace")
        found = await self.store.environments.environments.list_all(_everything(), which, paging)
        return [show_environment(each) for each in found.items]

    async def list_alarms(self) -> Sequence[ShownAlarm]:
        found = await self.store.environments.upkeep.list_alarms()
        return [ShownAlarm(_name(each.build), each.build.id, each.reason, each.since) for each in found]

    async def find_build(self, build: int) -> ShownBuild:
        found = await self.store.environments.builds.find(build)
        on_disk = await self.store.environments.on_disk.find(build)
        return show_build(replace(found, status_info=add_problem(found.status_info, on_disk)))

    async def find_specification(self, build: ShownBuild) -> Mapping[str, Any]:
        builds = self.store.environments.builds
        return (await builds.find_specification((await builds.find(build.id)).specification)).document

    async def list_builds(self, query: BuildQuery) -> tuple[Sequence[ShownBuild], int]:
        which = BuildFilter(query.namespace, query.name, status=BuildStatus(query.status) if query.status else None)
        paging = Paging(limit=query.limit, descending=True)
        found = await self.store.environments.builds.list_all(_everything(), which, paging)
        return [show_build(each) for each in found.items], found.count

    async def list_packages(self, build: ShownBuild) -> Sequence[ShownPackage]:
        from builder.locks.lock import Lock

        document = await self.store.catalog.locks.find(build.lock or "")
        if document is None:
            return ()
        first = next(iter(Lock.from_json(document).packages.values()), ())
        return sorted({ShownPackage(each.name, each.version, each.channel) for each in first})

    async def set_current(self, namespace: str, name: str, build: int) -> None:
        record = self._record("environment.switch", build=build)
        await self.store.environments.environments.change(namespace, name, build_id=build, record=record)

    async def describe(self, namespace: str, name: str, description: str) -> None:
        record = self._record("environment.describe")
        await self.store.environments.environments.change(namespace, name, description=description, record=record)

    async def delete(self, namespace: str, name: str) -> None:
        await self._named.delete(namespace, name, by=self.actor.name, record=self._record("environment.delete"))

    async def cancel(self, build: int) -> None:
        found = await self.store.environments.builds.find(build)
        if not await self._named.cancel(found, f"It was canceled by {self.actor.name}."):
            ended = await self.store.environments.builds.find(build)
            raise BuildStateWrong(build, f"it is {ended.status} and cannot be canceled any more")
        async with self.store.database.writing() as connection:
            await append(connection, self.actor.did("build.cancel", found.repository, build=build))

    async def read_log(self, build: int, *, follow: bool) -> AsyncIterator[str]:
        # one that is not there has no log
        await self.store.environments.builds.find(build)
        pages = self._follow(build) if follow else self._read(build)
        async for page in pages:
            for record, _ in read_records(page.content):
                yield record.to_text()

    async def read_events(self, build: int) -> AsyncIterator[ShownEvent]:
        async for page in self._follow(build):
            for record, _ in read_records(page.content):
                if record.is_event:
                    yield ShownEvent(record.kind, record.text, record.data)

    async def _read(self, build: int) -> AsyncIterator[Page]:
        logs, position = self.store.environments.logs, 0
        state = await logs.find(build)
        while state and position < state.size and (page := await logs.read(build, position)).content:
            yield page
            position = page.stop

    async def _follow(self, build: int) -> AsyncIterator[Page]:
        following, is_last = LogFollowing(self.store.environments.logs), False
        try:
            with following.reading(build) as reader:
                while True:
                    page = await reader.next(LAST_SECONDS if is_last else LOOK_SECONDS)
                    if page is not None:
                        yield page
                    elif reader.is_over or is_last:
                        return
                    else:
                        is_last = (await self.store.environments.builds.find(build)).is_finished
        finally:
            await following.aclose()

    @property
    def _named(self) -> NamedEnvironments:
        assert self.named is not None, "commands that build open a builder"
        return self.named

    async def _record_build(self, connection: AsyncConnection, build: EnvironmentBuild) -> None:
        await append(connection, self.actor.did(name_build(build), build.repository, build=build.id))

    async def _record_rebuild(self, connection: AsyncConnection, build: EnvironmentBuild) -> None:
        await append(connection, self.actor.did("environment.rebuild", build.repository, build=build.id))

    def _record(self, action: str, **detail: object) -> Record[Environment]:
        async def record(connection: AsyncConnection, changed: Environment) -> None:
            await append(connection, self.actor.did(action, changed.repository, **detail))

        return record


def _everything() -> Scope:
    from storage.environments.lists.scope import Scope

    return Scope()


def show_environment(found: Environment) -> ShownEnvironment:
    return ShownEnvironment(
        found.namespace,
        found.name,
        found.repository,
        found.description,
        found.current_build or 0,
        found.last_build or 0,
        found.created,
        found.created_by,
        found.resolved,
        found.resolve_error,
    )


def _name(build: EnvironmentBuild) -> str:
    return f"{build.namespace}/{build.name}"


def show_build(found: EnvironmentBuild) -> ShownBuild:
    return ShownBuild(
        found.id,
        _name(found),
        found.status,
        found.status_info or "",
        found.size,
        found.scheduled,
        found.started,
        found.ended,
        found.cause,
        found.created_by,
        found.lock_key if found.status == BuildStatus.COMPLETED else None,
    )
