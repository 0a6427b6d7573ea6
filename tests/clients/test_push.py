"""What a person does with each client at a registry of their own: push, pull back, copy, attach, list and delete.

All that is pushed is made here; every client uses repositories of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.v2.manifests import MOST_TAGS
from storage.digest import Digest
from storage.oci import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from tests.clients import layouts
from tests.clients.layouts import CONFIG
from tests.clients.pushed import (
    DOCKER_LIST,
    digest,
    image_manifest,
    layers,
    manifest,
    push_artifact,
    put_manifest,
    tags,
    uploads,
)
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel
from tests.support.programs import (
    ClientError,
    Containerd,
    Crane,
    Docker,
    Oras,
    OrasCommand,
    Podman,
    PythonDocker,
    Skopeo,
)
from tests.support.server import Server, StartServer

pytestmark = pytest.mark.clients
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An OCI layout in which v1 is an index of two platforms that share a layer, and the index's digest."""
    directory = tmp_path_factory.mktemp("layouts") / "layout"
    shared, amd64, arm64 = layers(3)
    index = layouts.write_layout(directory, "v1", {"amd64": [shared, amd64], "arm64": [shared, arm64]})
    return directory, index["digest"]


# docker


@pytest.fixture
def clean_docker(docker: Docker, empty: Server) -> Iterator[Docker]:
    yield docker
    docker.remove_images_of(empty.address)


def test_docker_pushes_mounts_and_pulls_back(clean_docker: Docker, empty: Server, tmp_path: Path) -> None:
    docker = clean_docker
    one, two = f"{empty.address}/docker/one:v1", f"{empty.address}/docker/two:v1"
    layouts.write_archive(tmp_path / "image.tar", one, layers())
    docker.load(tmp_path / "image.tar")
    [image] = json.loads(docker.inspect(one))
    said = docker.push(one)
    assert f"v1: digest: {digest(empty, 'docker/one', 'v1')} " in said
    assert uploads(empty, "docker/one") == {"mounted": 0, "sent": 3}
    docker.tag(one, two)
    said = docker.push(two)
    assert said.count("Mounted from docker/one") == 2
    assert uploads(empty, "docker/two")["mounted"] == 2
    assert manifest(empty, "docker/two", "v1") == manifest(empty, "docker/one", "v1")
    docker.remove_images_of(empty.address)
    docker.pull(two)
    [again] = json.loads(docker.inspect(two))
    assert again["Id"] == image["Id"]
    assert again["RootFS"] == image["RootFS"]


def test_docker_pushes_an_image_from_one_that_was_made_on_demand(
    docker: Docker, start_server: StartServer, tmp_path: Path
) -> None:
    """The base has its layers here, and they are mounted: those that docker pulled from here, and so knows of."""
    package = Package("unheard", files={"share/unheard": os.urandom(30_000)})
    asyncio.run(make_channel(tmp_path / "channel", [package]))
    server = start_server("--channels", (tmp_path / "channel").as_uri(), "--base", "scratch", "--workers", "1")
    name = "conda-store-dynamic/unheard"
    base, derived = f"{server.address}/{name}:latest", f"{server.address}/team/derived:v1"
    context = tmp_path / "context"
    context.mkdir()
    (context / "more").write_bytes(os.urandom(1000))
    (context / "Dockerfile").write_text(f"FROM {base}\nCOPY more /more\nLABEL made=by-hand\n")
    try:
        pulled = docker.pull_aloud(base).count("Pull complete")
        [image] = json.loads(docker.inspect(base))
        docker.build(context, derived)
        assert pulled > 0
        assert docker.push(derived).count(f"Mounted from {name}") == pulled
        # sent are what it had already, the layer that was added, and the config
        of_base = image["RootFS"]["Layers"]
        assert uploads(server, "team/derived") == {"mounted": pulled, "sent": len(of_base) - pulled + 2}
        docker.remove_images_of(server.address)
        docker.pull(derived)
        [again] = json.loads(docker.inspect(derived))
        assert again["RootFS"]["Layers"][: len(of_base)] == of_base
        assert again["Config"]["Labels"]["made"] == "by-hand"
    finally:
        docker.remove_images_of(server.address)


def test_docker_is_told_that_images_made_on_demand_cannot_be_pushed(
    clean_docker: Docker, empty: Server, tmp_path: Path
) -> None:
    reference = f"{empty.address}/conda-store-dynamic/python:latest"
    layouts.write_archive(tmp_path / "image.tar", reference, layers(1))
    clean_docker.load(tmp_path / "image.tar")
    with pytest.raises(ClientError, match="conda-store-dynamic/python is made from its name, so nothing can be pushed"):
        clean_docker.push(reference)


# podman, containerd


def test_podman_pushes_both_formats_and_pulls_them(podman: Podman, empty: Server, tmp_path: Path) -> None:
    image = "localhost/made:v1"
    layouts.write_archive(tmp_path / "image.tar", image, layers())
    podman.load(tmp_path / "image.tar")
    for name, media_type in (("oci", OCI_MANIFEST), ("v2s2", DOCKER_MANIFEST)):
        reference = f"{empty.address}/podman/{name}:v1"
        podman.push(image, reference, name)
        assert manifest(empty, f"podman/{name}", "v1")["mediaType"] == media_type
    podman.remove_all()
    for name in ("oci", "v2s2"):
        podman.pull(f"{empty.address}/podman/{name}:v1")


def test_containerd_pushes_images_and_indexes(
    containerd: Containerd, empty: Server, layout: tuple[Path, str], tmp_path: Path
) -> None:
    one, multi = f"{empty.address}/ctr/one:v1", f"{empty.address}/ctr/multi:v1"
    layouts.write_archive(tmp_path / "image.tar", one, layers())
    containerd.load(tmp_path / "image.tar")
    directory, index = layout
    (tmp_path / "layout.tar").write_bytes(
        layouts.tar(
            {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}
        )
    )
    containerd.load(tmp_path / "layout.tar", "--base-name", multi.removesuffix(":v1"), "--all-platforms")
    for reference in (one, multi):
        containerd.push(reference)
        containerd.remove(reference)
        containerd.pull(reference)
    assert digest(empty, "ctr/multi", "v1") == index
    assert manifest(empty, "ctr/one", "v1")["mediaType"] == DOCKER_MANIFEST


# skopeo


def test_skopeo_copies_all_platforms_there_and_back(
    skopeo: Skopeo, empty: Server, layout: tuple[Path, str], tmp_path: Path
) -> None:
    directory, index = layout
    reference = f"{empty.address}/skopeo/oci:v1"
    skopeo.push(f"oci:{directory}:v1", reference, "--all", "--format", "oci")
    assert digest(empty, "skopeo/oci", "v1") == index
    skopeo.copy(reference, f"oci:{tmp_path / 'back'}:v1", "--all")
    [entry] = json.loads((tmp_path / "back" / "index.json").read_bytes())["manifests"]
    assert entry["digest"] == index
    blobs = {path.name for path in (directory / "blobs" / "sha256").iterdir()}
    assert {path.name for path in (tmp_path / "back" / "blobs" / "sha256").iterdir()} == blobs


def test_skopeo_copies_all_platforms_as_schema_2(
    skopeo: Skopeo, empty: Server, layout: tuple[Path, str], tmp_path: Path
) -> None:
    reference = f"{empty.address}/skopeo/schema2:v1"
    skopeo.push(f"oci:{layout[0]}:v1", reference, "--all", "--format", "v2s2")
    pushed = manifest(empty, "skopeo/schema2", "v1")
    assert pushed["mediaType"] == DOCKER_LIST
    children = [each["digest"] for each in pushed["manifests"]]
    assert [manifest(empty, "skopeo/schema2", each)["mediaType"] for each in children] == [DOCKER_MANIFEST] * 2
    skopeo.copy(reference, f"dir:{tmp_path / 'back'}", "--all")
    back = (tmp_path / "back" / "manifest.json").read_bytes()
    assert Digest.of(back) == digest(empty, "skopeo/schema2", "v1")
    assert {f"sha256:{path.name.partition('.')[0]}" for path in (tmp_path / "back").glob("*.manifest.json")} == {
        *children
    }


def test_skopeo_copies_between_repositories_by_mounting(
    skopeo: Skopeo, empty: Server, layout: tuple[Path, str]
) -> None:
    skopeo.push(f"oci:{layout[0]}:v1", f"{empty.address}/skopeo/from:v1", "--all")
    source = f"docker://{empty.address}/skopeo/from:v1"
    skopeo.push(source, f"{empty.address}/skopeo/to:v1", "--all", "--src-tls-verify=false", "--preserve-digests")
    assert digest(empty, "skopeo/to", "v1") == layout[1]
    assert uploads(empty, "skopeo/to")["mounted"] > 0


def test_skopeo_deletes(skopeo: Skopeo, empty: Server, layout: tuple[Path, str]) -> None:
    for tag in ("v1", "v2"):
        skopeo.push(f"oci:{layout[0]}:v1", f"{empty.address}/skopeo/deleted:{tag}", "--all")
    assert skopeo.tags(f"{empty.address}/skopeo/deleted") == ["v1", "v2"]
    # it deletes by digest, and with it go both tags
    skopeo.delete(f"{empty.address}/skopeo/deleted:v1")
    assert skopeo.tags(f"{empty.address}/skopeo/deleted") == []
    with pytest.raises(ClientError, match=r"manifest unknown|there is no manifest"):
        skopeo.inspect(f"{empty.address}/skopeo/deleted:v2")


def test_skopeo_lists_more_tags_than_a_page_has(skopeo: Skopeo, empty: Server) -> None:
    body = push_artifact(empty, "skopeo/many", "", CONFIG, [])
    names = [f"v{number:04}" for number in range(1500)]
    for start in range(0, len(names), MOST_TAGS):
        query = "&".join(f"tag={name}" for name in names[start : start + MOST_TAGS])
        put_manifest(empty, "skopeo/many", f"{Digest.of(body)}?{query}", body)
    assert skopeo.tags(f"{empty.address}/skopeo/many") == names


# oras


def test_oras_pushes_attaches_discovers_and_pulls(oras_command: OrasCommand, empty: Server) -> None:
    (oras_command.directory / "hello.txt").write_text("hello\n")
    (oras_command.directory / "signature.json").write_text("{}\n")
    reference = f"{empty.address}/oras/artifact:v1"
    oras_command("push", reference, "--artifact-type", "application/x.hello", "hello.txt:text/plain")
    assert manifest(empty, "oras/artifact", "v1")["artifactType"] == "application/x.hello"
    for kind in ("signature", "sbom"):
        oras_command("attach", "--artifact-type", f"application/x.{kind}", reference, "signature.json:application/json")
    found = json.loads(oras_command("discover", "--format", "json", reference))
    assert sorted(each["artifactType"] for each in found["referrers"]) == [
        "application/x.sbom",
        "application/x.signature",
    ]
    wanted = ("--artifact-type", "application/x.sbom")
    [only] = json.loads(oras_command("discover", "--format", "json", *wanted, reference))["referrers"]
    assert manifest(empty, "oras/artifact", only["digest"])["subject"]["digest"] == digest(empty, "oras/artifact", "v1")
    oras_command("pull", "--output", "pulled", reference)
    assert (oras_command.directory / "pulled" / "hello.txt").read_text() == "hello\n"


def test_oras_copies_with_what_refers_to_it_tags_and_deletes(oras_command: OrasCommand, empty: Server) -> None:
    (oras_command.directory / "file").write_bytes(os.urandom(100))
    reference, copied = f"{empty.address}/oras/source:v1", f"{empty.address}/oras/copied:v2"
    oras_command("push", reference, "file")
    oras_command("attach", "--artifact-type", "application/x.note", reference, "file")
    oras_command("tag", reference, "v2", "v3")
    assert tags(empty, "oras/source") == ["v1", "v2", "v3"]
    both = ("--from-plain-http", "--to-plain-http")
    oras_command.run("cp", "--recursive", *both, reference, copied)
    assert oras_command("resolve", copied).strip() == digest(empty, "oras/source", "v1")
    [note] = json.loads(oras_command("discover", "--format", "json", copied))["referrers"]
    assert note["artifactType"] == "application/x.note"
    oras_command("manifest delete", "--force", f"{empty.address}/oras/copied@{note['digest']}")
    assert json.loads(oras_command("discover", "--format", "json", copied))["referrers"] == []
    assert "oras/copied" in oras_command("repo ls", empty.address).split()
    oras_command("manifest index create", f"{empty.address}/oras/source:index", "v1")
    assert manifest(empty, "oras/source", "index")["mediaType"] == OCI_INDEX
    blob = oras_command("blob push", "--descriptor", f"{empty.address}/oras/source", "file")
    assert Digest.of((oras_command.directory / "file").read_bytes()) == json.loads(blob)["digest"]


@pytest.mark.parametrize("chunked", [False, True])
def test_the_python_oras_library_pushes_and_pulls(
    oras: Oras, empty: Server, chunked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").write_bytes(content := os.urandom(100_000))
    client, target = oras.client(empty.address), f"{empty.address}/pyoras/{chunked}:v1".lower()
    with client.session:
        answer = client.push(
            target, files=["data:text/plain"], manifest_annotations={"a": "b"}, do_chunked=chunked, chunk_size=30_000
        )
        assert answer.status_code == 201
        [pulled] = client.pull(target, outdir=str(tmp_path / "out"))
        assert Path(pulled).read_bytes() == content
        assert client.get_manifest(target)["annotations"] == {"a": "b"}
        assert client.delete_tags(target.removesuffix(":v1"), ["v1"]) == ["v1"]
        assert client.get_tags(target.removesuffix(":v1")) == []


# crane


def test_crane_pushes_copies_changes_and_deletes(crane: Crane, empty: Server, tmp_path: Path) -> None:
    one, two = f"{empty.address}/crane/one", f"{empty.address}/crane/two"
    layouts.write_archive(tmp_path / "image.tar", f"{one}:v1", layers())
    (tmp_path / "more.tar").write_bytes(layers(1)[0])
    crane("push", tmp_path / "image.tar", f"{one}:v1")
    assert crane("digest", f"{one}:v1") == digest(empty, "crane/one", "v1")
    crane("copy", f"{one}:v1", f"{two}:v1")
    assert uploads(empty, "crane/two") == {"mounted": 3, "sent": 0}
    crane("mutate", "--label", "a=b", "--tag", f"{two}:v2", f"{two}:v1")
    assert json.loads(crane("config", f"{two}:v2"))["config"]["Labels"]["a"] == "b"
    crane("append", "--base", f"{two}:v1", "--new_layer", tmp_path / "more.tar", "--new_tag", f"{two}:v3")
    assert len(manifest(empty, "crane/two", "v3")["layers"]) == 3
    for tag in ("v1", "v2", "v3"):
        crane("validate", "--remote", f"{two}:{tag}")
    assert {"crane/one", "crane/two"} <= {*crane("catalog", empty.address).split()}
    crane("delete", f"{two}:v2")
    assert crane("ls", two).split() == ["v1", "v3"]
    crane("tag", f"{two}:v3", "v4")
    crane("delete", f"{two}@{crane('digest', f'{two}:v3')}")
    assert crane("ls", two).split() == ["v1"]
    with pytest.raises(ClientError, match="MANIFEST_UNKNOWN"):
        crane("manifest", f"{two}:v4")


def test_crane_pushes_and_copies_indexes(crane: Crane, empty: Server, layout: tuple[Path, str], tmp_path: Path) -> None:
    one, two = f"{empty.address}/crane/index", f"{empty.address}/crane/index-copy"
    crane("push", "--index", layout[0], f"{one}:v1")
    crane("validate", "--remote", f"{one}:v1")
    crane("copy", "--all-tags", one, two)
    assert crane("digest", f"{two}:v1") == crane("digest", f"{one}:v1")
    # the layout's index.json is an index itself, with the index of the platforms in it
    [inner] = manifest(empty, "crane/index-copy", "v1")["manifests"]
    assert inner["digest"] == layout[1]
    crane("pull", "--format", "oci", f"{two}@{layout[1]}", tmp_path / "pulled")
    assert layout[1] in (tmp_path / "pulled" / "index.json").read_text()


# python-docker


@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")
def test_python_docker_pushes_blobs_and_manifests(python_docker: PythonDocker, empty: Server) -> None:
    """By its parts: with pydantic 2 it cannot put a manifest together itself."""
    layer, config = os.urandom(1000), b"{}"
    body = image_manifest(
        DOCKER_CONFIG, config, [("application/vnd.docker.image.rootfs.diff.tar", layer)], DOCKER_MANIFEST
    )
    with python_docker.registry(empty.address) as registry:
        registry.upload_blob("pydocker/image", layer, Digest.of(layer).hex)
        assert registry.check_blob("pydocker/image", Digest.of(layer))
        checked = {"config": (config, Digest.of(config).hex), "manifest": (body, Digest.of(body).hex)}
        registry.upload_manifest("pydocker/image", "v1", checked)
        assert registry.get_manifest_digest("pydocker/image", "v1") == Digest.of(body)
        assert registry.get_blob("pydocker/image", Digest.of(layer)) == layer
        assert registry.list_image_tags("pydocker/image") == ["v1"]
        assert "pydocker/image" in registry.list_images()
        registry.delete_image("pydocker/image", "v1")
        assert registry.list_image_tags("pydocker/image") == []
