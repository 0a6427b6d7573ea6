"""Random histories of a store beside a plain model of it: after every collection both have exactly the same."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from storage.database import tables
from storage.digest import Digest
from storage.errors import BlobInUse
from storage.garbage.rehearsal import rehearse
from storage.repositories.uploads import Upload
from tests.support.storage.ageing import make_old
from tests.support.storage.content import AT_ONCE, ROOT, Content, push_of
from tests.support.wide import WIDE

OLD = replace(AT_ONCE, grace=3600, upload_seconds=3600, untagged_for=3600, image_retention=3600)

REPOSITORIES = ("a", "b", "c/d")
DATA = tuple(f"data {number}".encode() for number in range(6))
TAGS = ("v1", "v2")
KEYS = ("i", "j")


@dataclass
class Manifest:
    blobs: frozenset[bytes]
    children: frozenset[Digest] = frozenset()
    subject: Digest | None = None
    young: bool = True


@dataclass
class Session:
    upload: Upload
    data: bytes = b""
    created_young: bool = True
    young: bool = True


@dataclass
class Model:
    """What there should be. What is young was pushed, used or let go since everything was made old."""

    links: dict[tuple[str, bytes], bool] = field(default_factory=dict)
    blobs: dict[bytes, bool] = field(default_factory=dict)
    manifests: dict[tuple[str, Digest], Manifest] = field(default_factory=dict)
    bodies: dict[Digest, bool] = field(default_factory=dict)
    tags: dict[tuple[str, str], Digest] = field(default_factory=dict)
    images: dict[str, tuple[frozenset[Digest], bool]] = field(default_factory=dict)
    files: dict[str, tuple[bytes, bool]] = field(default_factory=dict)
    uploads: dict[str, Session] = field(default_factory=dict)
    repositories: set[str] = field(default_factory=set)
    linked: dict[tuple[str, bytes], int] = field(default_factory=dict)
    """In which order repositories got their blobs, and `used` when something last needed one."""
    used: dict[bytes, int] = field(default_factory=dict)
    now: int = 0

    def need(self, data: bytes) -> None:
        self.now += 1
        self.used[data] = self.now
        self.blobs[data] = True

    def link(self, repository: str, data: bytes) -> None:
        self.need(data)
        self.links[repository, data] = True
        self.linked[repository, data] = self.now
        self.repositories.add(repository)

    def push(self, repository: str, digest: Digest, manifest: Manifest) -> None:
        self.manifests[repository, digest] = manifest
        self.bodies[digest] = True
        self.repositories.add(repository)
        for data in manifest.blobs:
            self.link(repository, data)

    def let_go(self, repository: str, data: bytes) -> None:
        """What only this repository has needed since it got it is garbage at once."""
        others = {name for name, each in self.links if each == data} - {repository}
        filed = data in {each for each, _ in self.files.values()}
        if not others and not filed and self.used[data] <= self.linked[repository, data]:
            self.blobs[data] = False

    def untag(self, repository: str, tag: str) -> None:
        digest = self.tags.pop((repository, tag), None)
        if digest is not None and not self.tagged(repository, digest):
            self.manifests[repository, digest].young = True

    def tagged(self, repository: str, digest: Digest) -> bool:
        return digest in {meant for (name, _), meant in self.tags.items() if name == repository}

    def make_old(self) -> None:
        self.links = dict.fromkeys(self.links, False)
        self.blobs = dict.fromkeys(self.blobs, False)
        self.bodies = dict.fromkeys(self.bodies, False)
        self.linked, self.used = dict.fromkeys(self.linked, 0), dict.fromkeys(self.used, 0)
        for manifest in self.manifests.values():
            manifest.young = False
        self.images = {key: (digests, False) for key, (digests, _) in self.images.items()}
        self.files = {key: (data, False) for key, (data, _) in self.files.items()}
        for session in self.uploads.values():
            session.created_young = session.young = False

    def collect(self) -> None:
        self.uploads = {name: each for name, each in self.uploads.items() if each.young}
        self.images = {key: image for key, image in self.images.items() if image[1]}
        self.files = {key: file for key, file in self.files.items() if file[1]}
        self.manifests = {place: self.manifests[place] for place in self._needed()}
        pinned = {(name, data) for (name, _), each in self.manifests.items() for data in each.blobs}
        pushing = {each.upload.repository for each in self.uploads.values() if not each.created_young}
        self.links = {
            link: young for link, young in self.links.items() if young or link in pinned or link[0] in pushing
        }
        kept = {data for _, data in self.links} | {data for data, _ in self.files.values()}
        self.blobs = {data: young for data, young in self.blobs.items() if young or data in kept}
        named = {digest for _, digest in self.manifests}
        self.bodies = {digest: young for digest, young in self.bodies.items() if young or digest in named}
        filled = {name for name, _ in (*self.links, *self.manifests)}
        self.repositories &= filled | {each.upload.repository for each in self.uploads.values()}

    def _needed(self) -> list[tuple[str, Digest]]:
        """What is needed for its own sake, and all that it leads to."""
        made = {digest for digests, _ in self.images.values() for digest in digests}
        found = [
            place for place, each in self.manifests.items() if each.young or self.tagged(*place) or place[1] in made
        ]
        for repository, digest in found:
            lower = self.manifests[repository, digest].children | {
                other for (name, other), each in self.manifests.items() if each.subject == digest and name == repository
            }
            found += [place for other in lower if (place := (repository, other)) in self.manifests.keys() - set(found)]
        return found

    def state(self) -> dict[str, set[Any]]:
        return {
            "links": {(name, Digest.of(data)) for name, data in self.links},
            "blobs": {Digest.of(data) for data in self.blobs},
            "manifests": set(self.manifests),
            "bodies": set(self.bodies),
            "tags": {(name, tag, digest) for (name, tag), digest in self.tags.items()},
            "images": set(self.images),
            "files": set(self.files),
            "uploads": set(self.uploads),
            "repositories": self.repositories,
        }


async def state_of(content: Content) -> dict[str, set[Any]]:
    queries = {
        "links": select(tables.link.c.repository, tables.link.c.digest),
        "blobs": select(tables.blob.c.digest),
        "manifests": select(tables.repository_manifest.c.repository, tables.repository_manifest.c.digest),
        "bodies": select(tables.manifest.c.digest),
        "tags": select(tables.tag.c.repository, tables.tag.c.name, tables.tag.c.digest),
        "images": select(tables.image.c.key),
        "files": select(tables.artifact.c.key),
        "uploads": select(tables.upload.c.id),
        "repositories": select(tables.repository.c.name),
    }
    found = {name: await content.stores.rows(query) for name, query in queries.items()}
    return {name: {tuple(row) if len(row) > 1 else row[0] for row in rows} for name, rows in found.items()}


@dataclass
class History:
    """Does things to a store and its model; `choice` numbers say to what."""

    content: Content
    model: Model = field(default_factory=Model)
    pushed: int = 0

    async def push_blob(self, choice: int) -> None:
        repository, data = _pick(REPOSITORIES, choice), _pick(DATA, choice // 3)
        await self.content.push_blob(repository, data)
        self.model.link(repository, data)

    async def mount(self, choice: int) -> None:
        if not self.model.links:
            return
        source, data = _pick(sorted(self.model.links), choice)
        target = _pick(REPOSITORIES, choice // 7)
        assert await self.content.repositories.mount(target, Digest.of(data), source, lambda _: True)
        self.model.link(target, data)

    async def push_manifest(self, choice: int) -> None:
        """With up to two blobs, a child and a subject of those that are here, or of one that is not."""
        repository = _pick(REPOSITORIES, choice)
        here = sorted(data for name, data in self.model.links if name == repository)
        others = [digest for name, digest in self.model.manifests if name == repository] + [Digest.of(b"absent")]
        blobs = here[choice // 3 % 4 :][:2]
        children = [_pick(others, choice // 11)] if choice // 5 % 3 == 0 else []
        subject = _pick(others, choice // 13) if choice // 7 % 3 == 0 else None
        tags = [_pick(TAGS, choice // 2)] if choice % 2 else []
        push = push_of(blobs, children, subject, str(choice % 4))
        await self.content.repositories.put_manifest(repository, push, tags)
        digest = push.manifest.digest
        for tag in tags:
            if self.model.tags.get((repository, tag)) != digest:
                self.model.untag(repository, tag)
        self.model.push(repository, digest, Manifest(frozenset(blobs), frozenset(children), subject))
        self.model.tags |= {(repository, tag): digest for tag in tags}

    async def delete_tag(self, choice: int) -> None:
        if self.model.tags:
            repository, tag = _pick(sorted(self.model.tags), choice)
            await self.content.repositories.delete_tag(repository, tag)
            self.model.untag(repository, tag)

    async def delete_manifest(self, choice: int) -> None:
        places = sorted(place for place in self.model.manifests if place[0] != ROOT)
        if places:
            repository, digest = _pick(places, choice)
            await self.content.repositories.delete_manifest(repository, digest)
            del self.model.manifests[repository, digest]
            self.model.tags = {
                key: meant for key, meant in self.model.tags.items() if (key[0], meant) != (repository, digest)
            }

    async def delete_blob(self, choice: int) -> None:
        if not self.model.links:
            return
        repository, data = _pick(sorted(self.model.links), choice)
        used = any(name == repository and data in each.blobs for (name, _), each in self.model.manifests.items())
        try:
            await self.content.repositories.delete_blob(repository, Digest.of(data))
        except BlobInUse:
            assert used
        else:
            assert not used
            self.model.let_go(repository, data)
            del self.model.links[repository, data]

    async def make_image(self, choice: int) -> None:
        key, blobs = _pick(KEYS, choice), (_pick(DATA, choice // 2), _pick(DATA, choice // 12))
        index, *manifests = await self.content.make_image(key, *blobs)
        self.model.push(ROOT, index, Manifest(frozenset(), frozenset(manifests[:1])))
        for digest in manifests:
            self.model.push(ROOT, digest, Manifest(frozenset(blobs)))
        self.model.images[key] = (frozenset([index, *manifests]), True)

    async def make_file(self, choice: int) -> None:
        key, data = _pick(KEYS, choice), _pick(DATA, choice // 2)
        await self.content.stores.blobs.put(Digest.of(data), [data])
        await self.content.stores.catalog.artifacts.put(key, "lock", {}, Digest.of(data))
        self.model.files[key] = (data, True)
        self.model.need(data)

    async def open_upload(self, choice: int) -> None:
        upload = await self.content.uploads.open(_pick(REPOSITORIES, choice), "me")
        self.model.uploads[upload.id] = Session(upload)

    async def append(self, choice: int) -> None:
        if self.model.uploads:
            session = _pick(list(self.model.uploads.values()), choice)
            session.upload = await self.content.chunk(session.upload, str(choice).encode())
            session.data += str(choice).encode()
            session.young = True

    async def finish(self, choice: int) -> None:
        if self.model.uploads:
            session = _pick(list(self.model.uploads.values()), choice)
            await self.content.uploads.finish(session.upload, Digest.of(session.data))
            del self.model.uploads[session.upload.id]
            self.model.link(session.upload.repository, session.data)

    async def cancel(self, choice: int) -> None:
        if self.model.uploads:
            session = _pick(list(self.model.uploads.values()), choice)
            await self.content.uploads.cancel(session.upload)
            del self.model.uploads[session.upload.id]

    async def age(self, choice: int) -> None:
        await make_old(self.content)
        self.model.make_old()

    async def collect(self, choice: int) -> None:
        told = await rehearse(self.content.stores.blobs, OLD)
        done = await self.content.collect(OLD)
        assert told.to_json()["steps"] == done.to_json()["steps"]
        self.model.collect()
        assert await state_of(self.content) == self.model.state()
        await self.content.assert_sound()

    async def end(self) -> None:
        """Whatever it was, nothing is left of it once nothing leads to it."""
        for repository, tag in list(self.model.tags):
            await self.content.repositories.delete_tag(repository, tag)
            self.model.untag(repository, tag)
        await self.collect(0)
        for _ in range(2):
            await self.age(0)
            await self.collect(0)
        assert await self.content.counts() == {}
        assert self.content.stores.files() == []


Deed = Callable[[History, int], Awaitable[None]]

DEEDS: list[Deed] = [
    History.push_blob,
    History.mount,
    History.push_manifest,
    History.push_manifest,
    History.delete_tag,
    History.delete_manifest,
    History.delete_blob,
    History.make_image,
    History.make_file,
    History.open_upload,
    History.append,
    History.finish,
    History.cancel,
    History.age,
    History.collect,
]


def _pick(things: Any, choice: int) -> Any:
    return things[choice % len(things)]


@given(st.lists(st.tuples(st.sampled_from(DEEDS), st.integers(0, 1000)), max_size=30))
@settings(max_examples=100 if WIDE else 6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_store_and_its_model(content: Content, deeds: list[tuple[Deed, int]]) -> None:
    await _clear(content)
    history = History(content)
    for deed, choice in deeds:
        await deed(history, choice)
    await history.collect(0)
    await history.end()


async def _clear(content: Content) -> None:
    async with content.stores.database.writing() as connection:
        for table in reversed(tables.metadata.sorted_tables):
            await connection.execute(table.delete())
    shutil.rmtree(content.stores.root / "blobs", ignore_errors=True)
