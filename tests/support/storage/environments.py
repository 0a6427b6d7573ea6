"""Named environments in a store without a builder: asked for, published, ended, as the queue's builds do it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Self

from sqlalchemy import select

from storage.database import tables
from storage.database.environment_tables import environment_build
from storage.digest import Digest
from storage.environments.parts import EnvironmentStore
from storage.environments.upkeep import EnvironmentUpkeep
from storage.environments.vocabulary import BuildStatus, EnvironmentBuild, Made, NewSpecification
from storage.events.outbox import Record
from storage.quotas.limits import Limits
from tests.support.storage.content import Content

REPOSITORY = "team/science"
DOCKER = 2
"""The place of an image's docker schema 2 form, which has no tag, in `Content.make_image`."""


def lock_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def specify(name: str) -> NewSpecification:
    return NewSpecification("science", {"dependencies": [name]}, {"items": [name]})


@dataclass(frozen=True)
class Named:
    """`content` is of a store that nobody else opens; another process is another one of the same database."""

    content: Content
    store: EnvironmentStore
    upkeep: EnvironmentUpkeep

    @classmethod
    def of(cls, content: Content, limits: Limits | None = None) -> Self:
        stores, room = content.stores, content.repositories.room
        store = EnvironmentStore.of(stores.blobs, content.changes, room, limits)
        return cls(content, store, EnvironmentUpkeep(stores.database))

    async def begin(self, build: EnvironmentBuild) -> None:
        """As the queue does when the work of a build begins."""
        async with self.content.stores.database.writing() as connection:
            await self.store.building.begin(connection, build.id)

    async def ask(
        self,
        what: str = "numpy",
        name: str = "science",
        namespace: str = "team",
        description: str | None = None,
        record: Record[EnvironmentBuild] | None = None,
    ) -> EnvironmentBuild:
        repository = f"{namespace}/{name.lower()}"
        return await self.store.environments.ask_for_build(
            namespace, name, repository, specify(what), by="ann", description=description, record=record
        )

    async def publish(
        self, build: EnvironmentBuild, image: str = "", *packages: str, lock: str = "", size: int = 10
    ) -> list[Digest]:
        """Make an image and publish it as the build's; returns the digests of its manifests."""
        image = image or f"image of {build.id}"
        digests = await self.content.make_image(image, b"base", f"layer of {image}".encode())
        await self.begin(build)
        made = Made(lock_of(lock or image), image, size, packages)
        await self.store.building.publish(build.id, made, digests[0])
        return digests

    async def complete(self, build: EnvironmentBuild) -> EnvironmentBuild:
        async with self.content.stores.database.writing() as connection:
            await self.store.building.complete(connection, build.id)
        return await self.store.builds.find(build.id)

    async def fail(self, build: EnvironmentBuild, reason: str = "It is too big.", **how: bool) -> EnvironmentBuild:
        async with self.content.stores.database.writing() as connection:
            await self.store.building.fail(connection, build.id, reason, **how)
        return await self.store.builds.find(build.id)

    async def make(
        self, image: str = "", *packages: str, name: str = "science", namespace: str = "team", lock: str = ""
    ) -> EnvironmentBuild:
        """A complete build."""
        build = await self.ask(image or "numpy", name, namespace)
        await self.publish(build, image, *packages, lock=lock)
        done = await self.complete(build)
        assert done.status == BuildStatus.COMPLETED
        return done

    async def change(self, build: EnvironmentBuild, **values: object) -> None:
        await self.content.change(environment_build, environment_build.c.id == build.id, **values)

    async def tags(self, repository: str = REPOSITORY) -> dict[str, str]:
        """Tags of a repository with their digests."""
        table = tables.tag
        rows = await self.content.stores.rows(select(table).where(table.c.repository == repository))
        return {row.name: row.digest for row in rows}

    async def links(self, repository: str = REPOSITORY) -> set[str]:
        """The digests of the blobs that a repository's clients can read."""
        table = tables.link
        rows = await self.content.stores.rows(select(table).where(table.c.repository == repository))
        return {row.digest for row in rows}

    async def lose_image(self, key: str) -> None:
        """Take an image from the repository of images on demand, as for want of room."""
        made, row, image = tables.image_manifest, tables.repository_manifest, tables.image
        async with self.content.stores.database.writing() as connection:
            digests = select(made.c.digest).where(made.c.image == key)
            await connection.execute(row.delete().where(row.c.repository == "on-demand", row.c.digest.in_(digests)))
            await connection.execute(image.delete().where(image.c.key == key))
