"""What must not be moved or deleted: immutable tags, what they lead to, no-delete, create-only, read-only.

CVE-2026-41888 (distribution: tags deleted although deletion is off), CVE-2026-31801 (zot: create-only overwrites
`latest`), PROJQUAY-10504 (an immutable tag lost by its digest).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from auth.permission import Permission
from auth.principal import Principal
from storage.digest import Digest
from storage.quotas.limits import Limits
from storage.quotas.patterns import Immutable
from storage.repositories.places import EVERYWHERE, Places
from tests.support.registry.pushes import INDEX, MANIFEST, Answer, Pusher
from tests.support.registry.serving import Site, serving

LIMITS = Limits(immutable=(Immutable.parse("team/*:v*"),), no_delete=("kept/*",))


@dataclass(frozen=True)
class Without:
    """An Access that grants everything but one permission."""

    permission: Permission

    def may(self, principal: Principal, permission: Permission, entity: str) -> bool:
        return permission is not self.permission

    def patterns(self, principal: Principal, permission: Permission) -> Sequence[Collection[str]]:
        return [("*/*",)]

    def may_everywhere(self, principal: Principal, permission: Permission) -> bool:
        return False

    def may_within(self, principal: Principal, permission: Permission, namespace: str) -> bool:
        return True

    def places(self, principal: Principal, permission: Permission) -> Places:
        return EVERYWHERE


@contextlib.asynccontextmanager
async def pushing(directory: Path, **options: Any) -> AsyncIterator[tuple[Site, Pusher]]:
    async with serving(directory, limits=LIMITS, **options) as site:
        yield site, Pusher(site)


@pytest.fixture
async def push(tmp_path: Path) -> AsyncIterator[Pusher]:
    async with pushing(tmp_path) as (_, pusher):
        yield pusher


async def delete(push: Pusher, repository: str, reference: str, kind: str = "manifests") -> Answer:
    return await push.request("DELETE", f"/v2/{repository}/{kind}/{reference}")


async def push_index(push: Pusher, repository: str, tag: str) -> tuple[Digest, list[Digest]]:
    """An index of an index and an image; the digests of it, and of all below it."""
    images = [await push.image(repository, layer) for layer in (b"one", b"two")]
    for image in images:
        assert (await push.manifest(repository, Digest.of(image), image)).status == 201

    def write(*children: tuple[str, bytes]) -> bytes:
        entries = [{"mediaType": kind, "digest": Digest.of(body), "size": len(body)} for kind, body in children]
        return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()

    inner = write((MANIFEST, images[0]))
    assert (await push.manifest(repository, Digest.of(inner), inner, INDEX)).status == 201
    outer = write((INDEX, inner), (MANIFEST, images[1]))
    assert (await push.manifest(repository, tag, outer, INDEX)).status == 201
    return Digest.of(outer), [Digest.of(each) for each in (inner, *images)]


def is_denied(answer: Answer, *words: str) -> bool:
    return (answer.status, answer.code) == (403, "DENIED") and all(word in answer.message for word in words)


async def test_an_immutable_tag_is_not_overwritten(push: Pusher) -> None:
    first, second = await push.image("team/app", b"1"), await push.image("team/app", b"2")
    assert (await push.manifest("team/app", "v1", first)).status == 201
    assert (await push.manifest("team/app", "v1", first)).status == 201
    assert is_denied(await push.manifest("team/app", "v1", second), "team/app:v1 must not be changed", "team/*:v*")
    assert is_denied(await push.manifest("team/app", f"{Digest.of(second)}?tag=v1", second), "v1")
    # of several tags none is set
    assert is_denied(await push.manifest("team/app", f"{Digest.of(second)}?tag=new,v1", second), "v1")
    assert await push.tags("team/app") == ["v1"]
    assert (await push.get_manifest("team/app", "v1")).body == first


async def test_projquay_10504_an_immutable_tag_is_not_deleted_by_any_of_its_names(push: Pusher) -> None:
    index, below = await push_index(push, "team/app", "v1")
    for reference in ("v1", index, *below):
        assert is_denied(await delete(push, "team/app", reference), "team/app:v1 must not be changed or deleted")
    for digest in (index, *below):
        assert (await push.get_manifest("team/app", digest)).status == 200
    assert (await delete(push, "team/app", Digest.of(b"one"), "blobs")).status == 409


async def test_what_no_immutable_tag_leads_to_is_deleted(push: Pusher) -> None:
    index, below = await push_index(push, "team/app", "latest")
    for reference in ("latest", below[0], index, below[1]):
        assert (await delete(push, "team/app", reference)).status == 202
    _, below = await push_index(push, "team/other", "w1")
    assert (await delete(push, "team/other", below[2])).status == 202


async def test_cve_2026_41888_nothing_is_deleted_where_deletion_is_off(push: Pusher) -> None:
    image = await push.image("kept/app", b"1")
    assert (await push.manifest("kept/app", "latest", image)).status == 201
    assert (await push.whole("kept/app", b"loose", Digest.of(b"loose"))).status == 201
    for reference in ("latest", Digest.of(image), "nothing"):
        assert is_denied(await delete(push, "kept/app", reference), "nothing is deleted from kept/app", "no_delete")
    for data in (b"loose", b"1"):
        assert is_denied(await delete(push, "kept/app", Digest.of(data), "blobs"), "no_delete")
    # what was not stored yet may be given up, and what is there be moved
    location = await push.open("kept/app")
    assert (await push.request("DELETE", location)).status == 204
    assert (await push.manifest("kept/app", "latest", await push.image("kept/app", b"2"))).status == 201


async def test_whoever_may_not_delete_deletes_nothing(tmp_path: Path) -> None:
    async with pushing(tmp_path, access=Without(Permission.ENVIRONMENT_DELETE)) as (_, push):
        image = await push.image("app", b"1")
        assert (await push.manifest("app", "latest", image)).status == 201
        for kind, reference in (("manifests", "latest"), ("manifests", Digest.of(image)), ("blobs", Digest.of(b"1"))):
            answer = await delete(push, "app", reference, kind)
            # whoever has not said who they are is asked to
            assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
            assert answer.message.startswith(
                "whoever is not signed in may not delete from app (environment::delete); sign in"
            )
        assert (await push.get_manifest("app", "latest")).status == 200


async def test_a_read_only_registry_takes_no_change(tmp_path: Path) -> None:
    async with pushing(tmp_path) as (_, push):
        image = await push.image("app", b"1")
        assert (await push.manifest("app", "latest", image)).status == 201
        location = await push.open("app")
    async with pushing(tmp_path, read_only=True) as (_, push):
        for method, path in (
            ("DELETE", "/v2/app/manifests/latest"),
            ("DELETE", f"/v2/app/manifests/{Digest.of(image)}"),
            ("DELETE", f"/v2/app/blobs/{Digest.of(b'1')}"),
            ("DELETE", location),
            ("PATCH", location),
            ("PUT", f"{location}?digest={Digest.of(b'')}"),
            ("PUT", "/v2/app/manifests/latest"),
            ("POST", "/v2/app/blobs/uploads/"),
        ):
            assert is_denied(await push.request(method, path), "read-only")
        assert (await push.get_manifest("app", "latest")).status == 200


async def test_cve_2026_31801_create_only_never_overwrites(tmp_path: Path) -> None:
    async with pushing(tmp_path, access=Without(Permission.ENVIRONMENT_UPDATE)) as (_, push):
        first, second = await push.image("app", b"1"), await push.image("app", b"2")
        assert (await push.manifest("app", "latest", first)).status == 201
        assert (await push.manifest("app", "latest", first)).status == 201
        said = (
            "app:latest is another manifest by now, and you may not move tags of app (environment::update); push to a"
        )
        assert is_denied(await push.manifest("app", "latest", second), said)
        assert is_denied(await push.manifest("app", f"{Digest.of(second)}?tag=new,latest", second), said)
        assert await push.tags("app") == ["latest"]
        assert (await push.manifest("app", "new", second)).status == 201
        assert (await push.get_manifest("app", "latest")).body == first


class TestNamespaces:
    """The policy of a namespace, which holds at once."""

    async def test_immutable_tags(self, tmp_path: Path) -> None:
        async with pushing(tmp_path) as (site, push):
            policies = site.workshop.store.catalog.policies
            assert await policies.put("ml", json.dumps({"immutable_tags": ["*:r*", "one:*"]}), "a test", create=True)
            first, second = await push.image("ml/app", b"1"), await push.image("ml/app", b"2")
            for tag in ("r1", "latest"):
                assert (await push.manifest("ml/app", tag, first)).status == 201
            assert is_denied(
                await push.manifest("ml/app", "r1", second), "immutable_tags of the policy of namespace ml has '*:r*'"
            )
            for reference in ("r1", Digest.of(first)):
                assert is_denied(await delete(push, "ml/app", reference), "namespace ml")
            assert (await push.manifest("ml/app", "latest", second)).status == 201
            one = await push.image("ml/one", b"1")
            assert (await push.manifest("ml/one", "x", one)).status == 201
            assert is_denied(await delete(push, "ml/one", "x"), "namespace ml has 'one:*'")
            # another's tags of the same names are not concerned
            elsewhere = await push.image("mlx/app", b"1")
            assert (await push.manifest("mlx/app", "r1", elsewhere)).status == 201
            assert (await delete(push, "mlx/app", "r1")).status == 202
            assert await policies.put("ml", "{}", "a test")
            assert (await push.manifest("ml/app", "r1", second)).status == 201

    async def test_no_delete(self, tmp_path: Path) -> None:
        async with pushing(tmp_path) as (site, push):
            image = await push.image("ml", b"1")
            assert (await push.manifest("ml", "latest", image)).status == 201
            policies = site.workshop.store.catalog.policies
            assert await policies.put("ml", json.dumps({"no_delete": True}), "a test", create=True)
            for reference in ("latest", Digest.of(image)):
                assert is_denied(await delete(push, "ml", reference), "no_delete of the policy of namespace ml")
            assert is_denied(await delete(push, "ml", Digest.of(b"1"), "blobs"), "no_delete")

    @pytest.mark.parametrize("document", ["{", "[]", '{"immutable_tags": "v1"}', '{"no_delete": 1}'])
    async def test_a_policy_that_cannot_be_read_moves_and_deletes_nothing(self, tmp_path: Path, document: str) -> None:
        async with pushing(tmp_path) as (site, push):
            first, second = await push.image("ml/app", b"1"), await push.image("ml/app", b"2")
            assert (await push.manifest("ml/app", "latest", first)).status == 201
            assert await site.workshop.store.catalog.policies.put("ml", document, "a test", create=True)
            assert is_denied(await push.manifest("ml/app", "latest", second), "which cannot be read")
            assert is_denied(await delete(push, "ml/app", "latest"), "which cannot be read")
            assert (await push.manifest("ml/app", "new", second)).status == 201
