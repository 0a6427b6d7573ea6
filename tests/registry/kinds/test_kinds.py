"""Kinds of repositories: which name is whose, that nothing else asks, and that one more is a module and a line."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from auth.permission import Permission
from registry.http.manifests import Prepared, Variants
from registry.kinds.all_kinds import ALL_KINDS
from registry.kinds.kind import KINDS, Kinds, Need, need_of
from registry.kinds.mirrored import Mirrored
from registry.kinds.on_demand import OnDemand
from registry.kinds.pushed import Pushed
from registry.kinds.stored import StoredKind, answer_variants
from registry.parts import MEMORY
from storage.digest import Digest
from storage.errors import ManifestUnknown
from storage.oci import OCI_MANIFEST
from tests.support.registry.access import GrantedAccess
from tests.support.registry.pushes import Pusher, image_manifest
from tests.support.registry.serving import NUMPY, ROOT, serving

REGISTRY = Path(__file__).parents[3] / "registry"

QUESTIONS = {"owns", "is_mirror"}
"""What asks whose a name is."""

ANSWERERS = ("kinds/", "mirror/")
"""Folders of registry/ that may know; those of the mirror know what they are given."""


class Numbered(StoredKind):
    """A fourth kind: all names below `numbered/`, whose tags are those of the repository `stock`."""

    listed = False

    def owns(self, repository: str) -> bool:
        return repository.startswith("numbered/")

    def scope(self, repository: str) -> str:
        return "stock"

    def refusal(self, request: web.Request, repository: str) -> str | None:
        return f"{repository} is numbered, so nobody writes to it"

    def needs(self, permission: Permission, repository: str) -> Need:
        return need_of(permission, repository, "numbered/*")

    async def answer_tag(self, request: web.Request, repository: str, tag: str, stamp: int) -> web.StreamResponse:
        stored = await self.parts.repositories.find_tagged("stock", tag)
        if stored is None:
            raise ManifestUnknown(repository, tag)
        variants = Variants.pushed(Prepared.of(stored))
        request.app[MEMORY].keep_tag(repository, tag, variants, stamp)
        return answer_variants(request, variants)


@pytest.mark.parametrize(
    ("name", "kind", "entity"),
    [
        (ROOT, OnDemand, f"{ROOT}/*"),
        (NUMPY, OnDemand, f"{ROOT}/*"),
        ("mirror", Mirrored, "mirror"),
        ("mirror/docker.io/debian", Mirrored, "mirror/docker.io/debian"),
        ("mirrors/a", Pushed, "mirrors/a"),
        ("team/app", Pushed, "team/app"),
    ],
)
async def test_each_name_is_of_one_kind(tmp_path: Path, name: str, kind: type, entity: str) -> None:
    async with serving(tmp_path) as site:
        found = site.app[KINDS].of(name)
        assert type(found) is kind
        assert found.needs(Permission.ENVIRONMENT_READ, name) == (Permission.ENVIRONMENT_READ, entity, name, "pull")
        assert (found.refusal(make_mocked_request("PUT", "/"), name) is None) == (kind is Pushed)
        assert found.scope(name) == (ROOT if kind is OnDemand else name)
        assert site.app[KINDS].lists(name) is found.listed is (kind is not OnDemand)


async def test_one_more_kind_is_a_module_and_a_line(tmp_path: Path) -> None:
    body = b'{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"x/y","digest":"%s","size":2},"layers":[]}'
    async with serving(tmp_path, kinds=(Numbered, *ALL_KINDS)) as site:
        digest = await site.workshop.put_blob(b"{}", "stock")
        manifest = body % (OCI_MANIFEST.encode(), digest.encode())
        headers = {"Content-Type": OCI_MANIFEST}
        async with site.request("PUT", "/v2/stock/manifests/v1", data=manifest, headers=headers) as answer:
            assert answer.status == 201
            pushed = answer.headers["Docker-Content-Digest"]
        for path in ("manifests/v1", f"manifests/{pushed}"):
            for _ in range(2):  # from the database, then from memory
                async with site.request("GET", f"/v2/numbered/1/{path}") as answer:
                    assert (answer.status, await answer.read()) == (200, manifest), path
        async with site.request("GET", f"/v2/numbered/1/blobs/{digest}") as answer:
            assert await answer.read() == b"{}"
        async with site.request("GET", "/v2/numbered/1/tags/list") as answer:
            assert await answer.json() == {"name": "numbered/1", "tags": ["v1"]}
        async with site.request("GET", f"/v2/numbered/1/referrers/{pushed}") as answer:
            assert (await answer.json())["manifests"] == []
        async with site.request("PUT", "/v2/numbered/1/manifests/v1", data=manifest, headers=headers) as answer:
            assert answer.status == 403
            assert "is numbered, so nobody writes to it" in await answer.text()
        async with site.request("GET", "/files/numbered/1/v1/conda-lock.yml") as answer:
            assert answer.status == 404
        async with site.request("POST", f"/v2/b/blobs/uploads/?mount={digest}&from=numbered/1") as answer:
            assert answer.status == 201, "it is mounted from the kind's scope"
        async with site.request("GET", f"/v2/{NUMPY}/tags/list") as answer:
            assert answer.status == 200, "the others are as before"
        assert [site.app[KINDS].lists(name) for name in ("numbered/1", NUMPY, "stock")] == [False, False, True]


READ, CREATE = Permission.ENVIRONMENT_READ, Permission.ENVIRONMENT_CREATE


@pytest.mark.parametrize(
    ("readable", "source", "status"),
    [
        ("numbered/*", "numbered/1", 201),
        ("numbered/*", "stock", 202),
        ("stock", "numbered/1", 202),
        ("stock", "stock", 201),
        ("stock", None, 201),
    ],
)
async def test_a_mount_takes_the_right_to_read_the_name_that_was_told(
    tmp_path: Path, readable: str, source: str | None, status: int
) -> None:
    access = GrantedAccess(frozenset({(READ, readable), (CREATE, "b")}))
    async with serving(tmp_path, kinds=(Numbered, *ALL_KINDS), access=access) as site:
        digest = await site.workshop.put_blob(b"{}", "stock")
        told = f"&from={source}" if source else ""
        async with site.request("POST", f"/v2/b/blobs/uploads/?mount={digest}{told}") as answer:
            assert answer.status == status


async def test_a_kind_says_what_of_a_scope_is_read_by_digest(tmp_path: Path) -> None:
    shown: set[Digest] = set()

    class Shared(Numbered):
        """One whose names show a part of what their scope has."""

        async def shows(self, repository: str, digest: Digest) -> bool:
            return digest in shown

    async with serving(tmp_path, kinds=(Shared, *ALL_KINDS)) as site:
        pusher = Pusher(site)
        subject = await pusher.image("stock", b"shown", b"hidden")
        about = {"mediaType": OCI_MANIFEST, "digest": Digest.of(subject), "size": len(subject)}
        others = [image_manifest(b"{}", [], subject=about, annotations={"n": str(number)}) for number in range(3)]
        for body in (subject, *others):
            assert (await pusher.manifest("stock", Digest.of(body), body)).status == 201
        *hidden, last = sorted(map(Digest.of, others))
        shown |= {last, Digest.of(b"shown")}
        for digest in (last, *hidden):
            found = await pusher.get_manifest("numbered/1", digest)
            assert found.status == (200 if digest in shown else 404)
            assert found.status == 200 or found.message == f"there is no manifest {digest} in stock"
        for data in (b"shown", b"hidden"):
            digest = Digest.of(data)
            assert (await pusher.site_get("numbered/1", digest)).status == (200 if digest in shown else 404)
            mounted = await pusher.request("POST", f"/v2/b/blobs/uploads/?mount={digest}&from=numbered/1")
            assert mounted.status == (201 if digest in shown else 202)
        referrers = await pusher.paged(f"/v2/numbered/1/referrers/{about['digest']}?n=1", "manifests")
        assert [each["digest"] for each in referrers] == [last]  # type: ignore[index] # these are documents


async def test_what_is_written_is_never_written_beside_what_is_read(tmp_path: Path) -> None:
    class Open(Numbered):
        def refusal(self, request: web.Request, repository: str) -> str | None:
            return None

    async with serving(tmp_path, kinds=(Open, *ALL_KINDS)) as site:
        pusher = Pusher(site)
        answer = await pusher.whole("numbered/1", b"{}", Digest.of(b"{}"))
        assert answer.status == 500
        assert (await pusher.whole("stock", b"{}", Digest.of(b"{}"))).status == 201


def test_a_name_that_no_kind_owns_is_a_fault_of_the_list() -> None:
    with pytest.raises(LookupError, match="team/app"):
        Kinds([]).of("team/app")


def questions(source: str) -> set[str]:
    """The names in a module that ask whose a repository's name is, or know how that is told."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute | ast.Name):
            found |= {node.attr if isinstance(node, ast.Attribute) else node.id} & QUESTIONS
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {alias.name for alias in node.names} & QUESTIONS
            found |= {alias.name for alias in node.names if node.module == "registry.mirror.names"} & {"PREFIX"}
    return found


def test_nothing_but_the_kinds_asks_whose_a_name_is() -> None:
    modules = {path.relative_to(REGISTRY).as_posix(): questions(path.read_text()) for path in REGISTRY.rglob("*.py")}
    assert modules["kinds/on_demand.py"] == {"owns"}
    assert modules["kinds/mirrored.py"] == {"is_mirror"}
    assert {name: asked for name, asked in modules.items() if asked and not name.startswith(ANSWERERS)} == {}


def test_the_rule_above_catches_what_it_forbids() -> None:
    assert questions("from registry.mirror.names import is_mirror, PREFIX") == {"is_mirror", "PREFIX"}
    assert questions("def f(parts):\n    return parts.demand.owns('a')") == {"owns"}
