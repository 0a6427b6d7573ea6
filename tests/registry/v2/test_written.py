"""Environment files that are pushed as artifacts, over the whole application."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from registry.v2.written import FILES, MANIFEST_OF_PIXI
from storage.digest import Digest
from storage.oci import OCI_CONFIG, OCI_EMPTY, OCI_LAYER_GZIP, OCI_MANIFEST
from tests.support.registry.environments import Place, serving_environments

TYPES = {name: media_type for media_type, name in FILES.items()}
ENVIRONMENT = TYPES["environment.yaml"]
LOCK = TYPES["pixi.lock"]


@dataclass
class Pushed:
    status: int
    headers: Any
    digest: str
    message: str

    @property
    def build(self) -> int:
        assert self.status == 201, self.message
        return int(self.headers["Condery-Build"])


async def send(place: Place, method: str, path: str, data: bytes = b"", **headers: str) -> tuple[int, Any, bytes]:
    url = f"{place.url}/v2/{path}"
    async with place.client.request(method, url, data=data, headers={**place.headers, **headers}) as answer:
        return answer.status, answer.headers, await answer.read()


async def push(
    place: Place,
    repository: str,
    layers: Sequence[tuple[str, bytes]],
    *,
    tag: str = "v1",
    config: str = OCI_EMPTY,
    **fields: Any,
) -> Pushed:
    for content in (b"{}", *(each for _, each in layers)):
        status, _, body = await send(place, "POST", f"{repository}/blobs/uploads/?digest={Digest.of(content)}", content)
        assert status == 201, body
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": config, "digest": Digest.of(b"{}"), "size": 2},
        "layers": [
            {"mediaType": media_type, "digest": Digest.of(content), "size": len(content)}
            for media_type, content in layers
        ],
        **fields,
    }
    body = json.dumps(document).encode()
    status, headers, answer = await send(
        place, "PUT", f"{repository}/manifests/{tag}", body, **{"Content-Type": OCI_MANIFEST}
    )
    message = "" if status == 201 else json.loads(answer)["errors"][0]["message"]
    return Pushed(status, headers, Digest.of(body), message)


def write(place: Place, *packages: str, **more: Any) -> list[tuple[str, bytes]]:
    return [(ENVIRONMENT, json.dumps({"channels": [place.channel], "dependencies": packages, **more}).encode())]


async def list_tags(place: Place, repository: str) -> set[str]:
    status, _, body = await send(place, "GET", f"{repository}/tags/list")
    assert status == 200, body
    return set(json.loads(body)["tags"])


async def test_a_file_makes_an_environment_and_the_next_one_changes_it(tmp_path: Path) -> None:
    async with serving_environments(tmp_path) as place:
        first = await push(place, "team/science", write(place, "one", surprise=1), tag="latest")
        assert first.headers["Docker-Content-Digest"] == first.digest
        assert first.headers["Location"] == f"/v2/team/science/manifests/{first.digest}"
        warnings = first.headers.getall("Warning")
        assert f"build {first.build} of team/science is QUEUED" in warnings[0]
        assert "surprise" in warnings[1]
        assert (await place.end_of(first.build))["status"] == "COMPLETED"
        # the artifact stays, by its digest and under a tag that is no build's
        for reference in (first.digest, f"file-{first.build}"):
            status, headers, _ = await send(place, "GET", f"team/science/manifests/{reference}")
            assert (status, headers["Docker-Content-Digest"]) == (200, first.digest)
        assert await list_tags(place, "team/science") >= {"latest", str(first.build), f"file-{first.build}"}
        status, headers, _ = await send(place, "GET", "team/science/manifests/latest")
        assert headers["Docker-Content-Digest"] != first.digest
        second = await push(place, "team/science", write(place, "one", "two"))
        assert second.build > first.build
        assert (await place.end_of(second.build))["status"] == "COMPLETED"
        assert "v1" not in await list_tags(place, "team/science")
        found = (await place.get("environment/team/science/")).data
        assert (found["current_build_id"], found["created_by"]) == (second.build, "admin")
        events = [each for each in (await place.get("audit/")).data if each["action"].startswith("environment.")]
        assert [(each["action"], each["entity"]) for each in events] == [
            ("environment.update", "team/science"),
            ("environment.create", "team/science"),
        ]


async def test_one_manifest_is_built_once_unless_it_failed(tmp_path: Path) -> None:
    async with serving_environments(tmp_path) as place:
        first = await push(place, "team/app", write(place, "one"))
        for tag in (first.digest, "v2"):
            assert (await push(place, "team/app", write(place, "one"), tag=tag)).build == first.build
        other = await push(place, "team/app", write(place, "two"))
        again = await push(place, "team/app", write(place, "one"))
        assert first.build < other.build < again.build
        failed = await push(place, "team/app", write(place, "tow"))
        assert (await place.end_of(failed.build))["status"] == "FAILED"
        assert (await push(place, "team/app", write(place, "tow"))).build > failed.build


async def test_what_each_file_is_called(tmp_path: Path) -> None:
    async with serving_environments(tmp_path) as place:
        await place.make("Science", "one")
        made = {
            "team/science": await push(place, "team/science", write(place, "two")),
            "team/big": await push(place, "team/big", write(place, "one", name="Big")),
            "team/mine": await push(place, "team/mine", write(place, "one", name="theirs")),
        }
        assert "the file's name is theirs" in made["team/mine"].headers.getall("Warning")[1]
        for pushed in made.values():
            await place.end_of(pushed.build)
        names = {each["name"]: each["repository"] for each in (await place.get("environment/")).data}
        assert names == {"Science": "team/science", "Big": "team/big", "mine": "team/mine"}


async def test_a_lock_of_pixi_is_built_as_it_is(tmp_path: Path) -> None:
    async with serving_environments(tmp_path) as place:
        build = await place.make("source", "one")
        async with place.client.get(
            f"{place.url}/files/team/source/{build['id']}/pixi.lock", headers=place.headers
        ) as answer:
            lock = await answer.read()
        manifest = f'[workspace]\nname = "w"\nchannels = ["{place.channel}"]\nplatforms = ["linux-64"]\n'.encode()
        both = await push(
            place,
            "team/both",
            [(MANIFEST_OF_PIXI, manifest + b'[dependencies]\ntwo = "*"\n'), (LOCK, lock)],
            config="application/vnd.pixi.config.v1+toml",
        )
        alone = await push(place, "team/alone", [(MANIFEST_OF_PIXI, manifest + b'[dependencies]\ntwo = "*"\n')])
        found = await place.end_of(both.build)
        assert (found["status"], found["status_info"]) == ("COMPLETED", found["status_info"])
        solved = await place.end_of(alone.build)
        assert solved["status"] == "COMPLETED"
        packages = {}
        for name in ("both", "alone"):
            async with place.client.get(
                f"{place.url}/files/team/{name}/latest/explicit.txt", headers=place.headers
            ) as answer:
                packages[name] = await answer.text()
        assert "/one-" in packages["both"]
        assert "/two-" not in packages["both"]
        assert "/two-" in packages["alone"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"dependencies": ["one", "a b c d"]}', "dependencies[1]: "),
        (b'{"dependencies": null}', "dependencies: it is null"),
        (b"a: [", "line"),
        (b"", "it is empty"),
        (b'{"dependencies": ["one"], "channels": ["file:///elsewhere"]}', "file:///elsewhere"),
    ],
)
async def test_a_wrong_file_leaves_nothing(tmp_path: Path, content: bytes, message: str) -> None:
    async with serving_environments(tmp_path) as place:
        pushed = await push(place, "team/app", [(ENVIRONMENT, content)])
        assert pushed.status == 400
        assert message in pushed.message
        assert (await place.ask("GET", "environment/team/app/")).status == 404
        assert (await send(place, "GET", f"team/app/manifests/{pushed.digest}"))[0] == 404
        # and the next one makes it
        assert (await push(place, "team/app", write(place, "one"))).status == 201


async def test_images_and_other_things_are_not_pushed_to_an_environment(tmp_path: Path) -> None:
    async with serving_environments(tmp_path) as place:
        await place.make("app", "one")
        layers = [(OCI_LAYER_GZIP, b"layer")]
        refused = [
            await push(place, "team/app", layers, config=OCI_CONFIG),
            await push(place, "team/app", [("text/plain", b"hello")]),
            await push(place, "team/app", [*write(place, "one"), ("text/plain", b"hello")]),
            await push(place, "team/app", write(place, "one"), config=OCI_CONFIG),
        ]
        subject = {"mediaType": OCI_MANIFEST, "digest": refused[0].digest, "size": 5}
        refused.append(await push(place, "team/app", write(place, "one"), subject=subject))
        for pushed in refused:
            assert pushed.status == 403
            assert "`condery env update team/app FILE`, or push such a file as an artifact" in pushed.message
        # docker is told before it sends a layer, and so is whoever says how much is coming
        begun = await send(place, "POST", "team/app/blobs/uploads/", b"", **{"User-Agent": "docker/28.0.1 go/go1.23"})
        assert begun[0] == 403
        large = b"x" * (17 << 20)
        url = f"{place.url}/v2/team/app/blobs/uploads/?digest={Digest.of(large)}"
        # refused by its announced length: a client that asks first sends none of it
        async with place.client.post(url, data=io.BytesIO(large), headers=place.headers, expect100=True) as answer:
            assert answer.status == 403
        for path in ("manifests/latest", f"blobs/{Digest.of(b'layer')}"):
            assert (await send(place, "DELETE", f"team/app/{path}"))[0] == 403
        assert len((await place.get("build/")).data) == 1


async def test_where_other_things_were_pushed_a_file_is_an_artifact(tmp_path: Path) -> None:
    async with serving_environments(tmp_path) as place:
        image = await push(place, "team/image", [(OCI_LAYER_GZIP, b"layer")], config=OCI_CONFIG)
        assert image.status == 201
        for repository in ("team/image", "team/deep/er", "single"):
            pushed = await push(place, repository, write(place, "one"), tag="v2")
            assert pushed.status == 201
            assert "Condery-Build" not in pushed.headers
            assert "v2" in await list_tags(place, repository)
        assert (await place.get("environment/")).data == []


async def test_who_may_push_a_file(tmp_path: Path) -> None:
    people = {
        "admin": ("*/*=admin",),
        "maker": ("team/*=maker",),
        "reader": ("team/*=viewer",),
    }
    roles = ("maker=environment::read+environment::create",)
    async with serving_environments(tmp_path, people, roles=roles) as place:
        maker, reader = place.by("maker"), place.by("reader")
        made = await push(maker, "team/app", write(place, "one"))
        assert (await place.end_of(made.build))["created_by"] == "maker"
        changed = await push(maker, "team/app", write(place, "two"))
        assert changed.status == 403
        assert "environment::update" in changed.message
        assert (await send(reader, "POST", "team/app/blobs/uploads/"))[0] == 403
        assert (await send(maker, "POST", "other/app/blobs/uploads/"))[0] == 403
        assert len((await place.get("build/")).data) == 1
        assert (await send(place, "GET", f"team/app/manifests/{changed.digest}"))[0] == 404


async def test_its_file_goes_with_a_build(tmp_path: Path) -> None:
    async with serving_environments(tmp_path) as place:
        first = await push(place, "team/app", write(place, "one"))
        second = await push(place, "team/app", write(place, "two"))
        for each in (first, second):
            await place.end_of(each.build)
        await place.named.store.environments.delete_build(first.build)
        assert await list_tags(place, "team/app") & {f"file-{first.build}", f"file-{second.build}"} == {
            f"file-{second.build}"
        }
        assert (await send(place, "GET", f"team/app/manifests/{first.digest}"))[0] == 404
        await place.named.delete("team", "app", by="admin")
        assert (await send(place, "GET", f"team/app/manifests/{second.digest}"))[0] == 404
        assert (await push(place, "team/app", write(place, "two"))).build > second.build


async def test_a_build_that_the_queue_does_not_take_leaves_nothing(tmp_path: Path) -> None:
    async with serving_environments(tmp_path) as place:
        pushed = await push(place, "team/app", write(place, "tow"))
        await place.end_of(pushed.build)
        # as after a refusal of the queue: nothing was made
        await place.named.store.environments.take_back(pushed.build)
        assert (await place.ask("GET", "environment/team/app/")).status == 404
        assert (await send(place, "GET", f"team/app/manifests/{pushed.digest}"))[0] == 404
        assert (await push(place, "team/app", write(place, "one"))).build > pushed.build


async def test_a_pushed_file_extends_nothing_that_its_pusher_may_not_read(tmp_path: Path) -> None:
    people = {"ann": ("team/*=admin",), "eve": ("other/*=editor",)}
    async with serving_environments(tmp_path, people) as ann:
        await ann.make("base", "one")
        eve, told = ann.by("eve"), []
        for base in ("base", "nothing"):
            refused = await push(eve, f"other/{base}", write(ann, "two", extends=f"team/{base}"))
            assert refused.status == 400
            told.append(refused.message.replace("nothing", "base"))
        assert told[0] == told[1]
        assert (await ann.end_of((await push(ann, "team/mine", write(ann, "two", extends="team/base"))).build))[
            "status"
        ] == "COMPLETED"
