"""What is to be made of what somebody wrote down, by the settings of now, and whether there is room for it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncConnection

from builder.canonical import make_key
from builder.channels.logins import NamespaceLogins
from builder.environments.extending import find_extended
from builder.environments.inputs.environment_file import NAME
from builder.environments.inputs.input import EnvironmentInput
from builder.environments.inputs.reading import read_input_aside
from builder.environments.request import BuildRequest
from builder.environments.settings import SettingsFound, SettingsOfEnvironments
from builder.errors import PolicyRefusal, TooManyBuilds
from builder.names.requirement import merge_requirements
from builder.names.spec import EnvironmentSpec
from builder.work.pool import WorkerPool
from storage.catalog.locks import Locks
from storage.environments.parts import EnvironmentStore
from storage.environments.usage import count_unfinished
from storage.environments.vocabulary import EnvironmentBuild
from storage.events.outbox import Record


def write_completed_key(lock_key: str, base: str = "") -> str:
    """The key of the resolution that says what a lock that somebody sent is once it is completed, on a spec's base."""
    # the lock itself has the base of when it was sent
    return make_key("completed lock", [lock_key, base] if base else lock_key)


@dataclass(frozen=True)
class Wanted:
    """Decides anew for each build: settings, credentials and the environment that one extends may have changed."""

    store: EnvironmentStore
    locks: Locks
    logins: NamespaceLogins
    settings: SettingsOfEnvironments

    async def read(
        self,
        content: bytes,
        pool: WorkerPool,
        namespace: str,
        name: str | None = None,
        *,
        is_lock: bool | None = None,
        needs_name: bool = True,
    ) -> EnvironmentInput:
        """Read what somebody wrote down for an environment of `namespace`, which is called `name` if the file does
        not say. Raises InputInvalid.
        """
        # what cannot be a name is refused later
        found = await self.settings.find(namespace, name if name and NAME.fullmatch(name) else "")
        inputs = replace(self.settings.inputs, needs_name=needs_name and not name)
        settings = found.values.adapt(inputs)
        wanted = await read_input_aside(content, settings, pool, is_lock=is_lock)
        if wanted.name is None or wanted.name == name:
            return wanted
        # what is set for an environment is known when the file has said which one it is
        own = (await self.settings.find(namespace, wanted.name)).values.adapt(inputs)
        return wanted if own == settings else await read_input_aside(content, own, pool, is_lock=is_lock)

    async def find_spec(self, request: BuildRequest, namespace: str, name: str) -> EnvironmentSpec:
        """What is solved for an environment. Raises EnvironmentUnusable."""
        spec = await find_extended(request, self.store, self.locks)
        values = (await self.settings.find(namespace, name)).values
        if request.lock_key is None:
            # requests of before have them beside the spec
            spec = replace(spec, requirements=merge_requirements([*spec.requirements, *request.pip]))
            spec = values.complete(spec, self.settings.inputs)
        spec = replace(spec, base=self.settings.find_base(values))
        return await self.logins.give_owner(spec, namespace)

    async def check_room(self, found: SettingsFound, namespace: str, name: str) -> None:
        """Raises PolicyRefusal if the builds that there are have as many bytes as they may."""
        limits = (
            (found.limit_of_namespace("quota"), None, namespace),
            (found.limit_of_environment("quota"), name, f"{namespace}/{name}"),
        )
        for limit, only, where in limits:
            if limit is None:
                continue
            size = await self.store.settings.measure(namespace, only)
            if size >= limit:
                raise PolicyRefusal(
                    f"the builds of {where} have {size:,} bytes of packages, and the setting quota allows {limit:,}; "
                    "delete builds, or ask the administrator"
                )

    @staticmethod
    def record_within(
        found: SettingsFound, namespace: str, name: str, also: Record[EnvironmentBuild] | None
    ) -> Record[EnvironmentBuild]:
        """What refuses a new build within its transaction if too many are unfinished. It raises TooManyBuilds."""
        limits = (
            (found.limit_of_namespace("max_unfinished_builds"), None, namespace),
            (found.limit_of_environment("max_unfinished_builds"), name, f"{namespace}/{name}"),
        )

        async def record(connection: AsyncConnection, build: EnvironmentBuild) -> None:
            for limit, only, where in limits:
                # the new one is there already
                if limit is not None and (count := await count_unfinished(connection, namespace, only) - 1) >= limit:
                    raise TooManyBuilds(count, limit, "max_unfinished_builds", where)
            if also is not None:
                await also(connection, build)

        return record
