"""Names on demand for what somebody wrote down."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from storage.oci import OCI_MANIFEST
from tests.support.builder.packages import Package
from tests.support.registry.environments import Place, serving_environments

PEOPLE = {
    "admin": ("*/*=admin",),
    "ed": ("conda-store-dynamic/*=editor",),
    "bob": ("conda-store-dynamic/*=viewer", "team/*=admin"),
}


async def post(place: Place, text: str, **more: Any) -> Any:
    answer = await place.ask("POST", "image/", {"specification": text, **more})
    assert answer.status == 200, answer.body
    return answer.data


async def pull(place: Place, reference: str) -> tuple[int, str, Any]:
    host, _, rest = reference.partition("/")
    assert place.url == f"http://{host}"
    name, _, tag = rest.rpartition(":")
    headers = {**place.headers, "Accept": "application/vnd.oci.image.index.v1+json"}
    async with place.client.get(f"{place.url}/v2/{name}/manifests/{tag}", headers=headers) as answer:
        return answer.status, answer.headers.get("Docker-Content-Digest", ""), await answer.json(content_type=None)


async def read_config(place: Place, reference: str, index: Any) -> Any:
    name = reference.partition("/")[2].rpartition(":")[0]

    async def read(path: str) -> Any:
        headers = {**place.headers, "Accept": OCI_MANIFEST}
        async with place.client.get(f"{place.url}/v2/{name}/{path}", headers=headers) as answer:
            assert answer.status == 200
            return await answer.json(content_type=None)

    manifest = await read(f"manifests/{index['manifests'][0]['digest']}")
    return await read(f"blobs/{manifest['config']['digest']}")


async def test_a_handle_is_pulled_and_means_the_newest_solution(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, PEOPLE, (Package("one", "1.0"), "two")) as admin:
        text = json.dumps({"dependencies": ["one", "two"], "variables": {"GREETING": "hello"}})
        made = await post(admin.by("ed"), text)
        assert re.fullmatch(r"spec\.[0-9a-f]{16}", made["handle"])
        assert made["reference"].endswith(f"/conda-store-dynamic/{made['handle']}:latest")
        assert made["digest"] is None
        status, digest, index = await pull(admin, made["reference"])
        assert status == 200, index
        config = await read_config(admin, made["reference"], index)
        assert "GREETING=hello" in config["config"]["Env"]
        assert (await pull(admin, made["pinned"]))[1] == digest
        again = await post(admin, text)
        assert (again["handle"], again["lock"], again["digest"]) == (made["handle"], made["lock"], digest)
        assert (await post(admin, json.dumps({"dependencies": ["one"]})))["handle"] != made["handle"]


async def test_a_lock_has_its_own_tag_and_is_built_as_it_is(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, PEOPLE, (Package("one", "1.0"), Package("one", "2.0"))) as admin:
        build = await admin.make("science", "one=1.0")
        lock = (await admin.get(f"build/{build['id']}/conda-lock.yml/")).body.decode()
        made = await post(admin, lock, is_lockfile=True)
        assert made["reference"] == made["pinned"]
        status, digest, index = await pull(admin, made["reference"])
        assert status == 200, index
        assert (await post(admin, lock))["digest"] == digest
        refused, _, document = await pull(admin, made["reference"].rpartition(":")[0] + ":latest")
        assert (refused, "pull its tag lock-" in document["errors"][0]["message"]) == (404, True)
        name = made["reference"].partition("/")[2].rpartition(":")[0]
        async with admin.client.get(f"{admin.url}/v2/{name}/tags/list", headers=admin.headers) as answer:
            assert (await answer.json())["tags"] == [f"lock-{made['lock'][:12]}"]


async def test_what_gets_no_handle(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, PEOPLE) as admin:
        for text, told in (
            ("dependencies: []", "nothing to make an image of"),
            ("dependencies: [tow]", "no package tow"),
            ("dependencies: [one, {pip: [requests]}]", "add python"),
            ("{dependencies: [one], extends: team/base}", "extends: a handle is of a whole specification"),
            ("dependencies: [one=>2]", "is not a match spec"),
            ("{channels: ['file:///elsewhere'], dependencies: [one]}", "file:///elsewhere is not allowed"),
        ):
            refused = await admin.ask("POST", "image/", {"specification": text})
            assert (refused.status, told in refused.message) == (400, True), refused.message
        for who, status in (("bob", 403), (None, 401)):
            refused = await admin.by(who).ask("POST", "image/", {"specification": "dependencies: [one]"})
            assert refused.status == status
