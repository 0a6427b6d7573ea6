"""Environments at a running server, by its REST API, as whoever the access token is of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from registry.cli.asking import NoAnswer
from registry.cli.environments.client import Client, Fields, Query, StreamedEvent
from registry.cli.environments.shown import (
    COMPLETED,
    BuildQuery,
    EnvironmentQuery,
    ShownAlarm,
    ShownBuild,
    ShownEnvironment,
    ShownEvent,
    ShownPackage,
    Written,
)

MOST_ATTEMPTS = 10
RETRY_SECONDS = 2.0
"""How often, and after how long, a log is asked for again whose server does not answer: it may be restarting."""


@dataclass
class There:
    client: Client
    _names: dict[int, str] = field(default_factory=dict)
    """Environments by their ids, which builds have instead of names."""

    @property
    def host(self) -> str:
        return self.client.origin.authority

    @property
    def files(self) -> str:
        return str(self.client.origin / "files")

    @property
    def waits(self) -> bool:
        return False

    @property
    def left(self) -> str:
        return f"It goes on at {self.host}"

    async def find_namespace(self) -> str:
        return (await self.client.ask("GET", "permission")).inner("data").text("primary_namespace")

    async def ask(self, written: Written) -> int:
        document = {
            "specification": written.text,
            "namespace": written.namespace,
            "is_lockfile": written.is_lock,
            "environment_name": written.name,
            **({"environment_description": written.description} if written.description is not None else {}),
        }
        return (await self.client.ask("POST", "specification", document)).inner("data").number("build_id")

    async def ask_again(self, build: int) -> int:
        return (await self.client.ask("PUT", f"build/{build}")).inner("data").number("build_id")

    async def find(self, namespace: str, name: str) -> ShownEnvironment:
        answer = await self.client.ask("GET", f"environment/{namespace}/{name}")
        return self._show_environment(answer.inner("data"))

    async def list_environments(self, query: EnvironmentQuery) -> Sequence[ShownEnvironment]:
        asked = {"namespace": query.namespace, "search": query.search, "status": query.status}
        named: dict[str, str | Sequence[str]] = {name: value for name, value in asked.items() if value}
        if query.packages:
            named["packages"] = query.packages
        rows, _ = await self.client.ask_list("environment", {**named, "sort_by": "namespace"})
        return [self._show_environment(each) for each in rows]

    async def list_alarms(self) -> Sequence[ShownAlarm]:
        rows, _ = await self.client.ask_list("alarm", {})
        return [
            ShownAlarm(
                f"{each.text('namespace')}/{each.text('environment')}",
                each.number("build_id"),
                each.text("reason"),
                each.time("since"),
            )
            for each in rows
        ]

    async def find_build(self, build: int) -> ShownBuild:
        answer = (await self.client.ask("GET", f"build/{build}")).inner("data")
        return self._show_build(answer, await self._find_name(answer.number("environment_id")))

    async def find_specification(self, build: ShownBuild) -> Mapping[str, Any]:
        answer = (await self.client.ask("GET", f"build/{build.id}")).inner("data")
        return answer.inner("specification").inner("spec").document

    async def list_builds(self, query: BuildQuery) -> tuple[Sequence[ShownBuild], int]:
        asked = {"namespace": query.namespace, "name": query.name, "status": query.status}
        named = {name: value for name, value in asked.items() if value}
        rows, count = await self.client.ask_list("build", {**named, "sort_by": "id", "order": "desc"}, query.limit)
        known = f"{query.namespace}/{query.name}" if query.namespace and query.name else None
        return [
            self._show_build(each, known or await self._find_name(each.number("environment_id"))) for each in rows
        ], count

    async def list_packages(self, build: ShownBuild) -> Sequence[ShownPackage]:
        rows, _ = await self.client.ask_list(f"build/{build.id}/packages", {})
        return sorted({_show_package(each) for each in rows})

    async def set_current(self, namespace: str, name: str, build: int) -> None:
        await self.client.ask("PUT", f"environment/{namespace}/{name}", {"build_id": build})

    async def describe(self, namespace: str, name: str, description: str) -> None:
        await self.client.ask("PUT", f"environment/{namespace}/{name}", {"description": description})

    async def delete(self, namespace: str, name: str) -> None:
        await self.client.ask("DELETE", f"environment/{namespace}/{name}")

    async def cancel(self, build: int) -> None:
        await self.client.ask("PUT", f"build/{build}/cancel")

    async def read_log(self, build: int, *, follow: bool) -> AsyncIterator[str]:
        async for event in self._stream(f"build/{build}/logs", {"follow": "1"}):
            if event.kind == "end":
                return
            yield event.data

    async def read_events(self, build: int) -> AsyncIterator[ShownEvent]:
        async for event in self._stream(f"build/{build}/events", {}):
            if event.kind == "end":
                return
            found = self.client.read(event.data)
            yield ShownEvent(event.kind, found.text("text"), found.inner("data").document)

    async def _stream(self, path: str, query: Query) -> AsyncIterator[StreamedEvent]:
        """All events of a stream up to its end, with new attempts where the server closes the stream or restarts."""
        attempts, position = 0, ""
        while True:
            try:
                async for event in self.client.stream(path, query, position):
                    attempts, position = 0, event.id or position
                    yield event
                    if event.kind == "end":
                        return
            except NoAnswer:
                attempts += 1
                if attempts >= MOST_ATTEMPTS:
                    raise
                await asyncio.sleep(RETRY_SECONDS)

    async def _find_name(self, environment: int) -> str:
        """The name of an environment, or nothing if it is deleted."""
        if environment not in self._names:
            for row in (await self.client.ask_list("environment", {}))[0]:
                self._show_environment(row)
        return self._names.setdefault(environment, "")

    def _show_environment(self, found: Fields) -> ShownEnvironment:
        shown = ShownEnvironment(
            found.inner("namespace").text("name"),
            found.text("name"),
            found.text("repository"),
            found.text("description"),
            found.number("current_build_id"),
            found.number("last_build_id"),
            found.time("created_on"),
            found.text("created_by"),
            # a server of before says nothing of it
            found.time_or_none("solved_on"),
            found.text_or_none("solve_error"),
        )
        self._names[found.number("id")] = shown.full_name
        return shown

    def _show_build(self, found: Fields, environment: str) -> ShownBuild:
        status = found.text("status")
        return ShownBuild(
            found.number("id"),
            environment,
            status,
            found.text_or_none("status_info") or "",
            found.number("size"),
            found.time("scheduled_on"),
            found.time_or_none("started_on"),
            found.time_or_none("ended_on"),
            found.text("cause"),
            found.text("created_by"),
            found.text_or_none("lock") if status == COMPLETED else None,
        )


def _show_package(found: Fields) -> ShownPackage:
    channel = found.document.get("channel")
    name = channel.get("name") if isinstance(channel, dict) else None
    return ShownPackage(found.text("name"), found.text("version"), name if isinstance(name, str) else "")
