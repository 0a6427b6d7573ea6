"""The documents of an image: what clients read, and that they are the same each time."""

from __future__ import annotations

import dataclasses
import datetime
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_docker import schema

from builder.base.vocabulary import BaseImage, BaseLayer
from builder.image.documents import HOME, ExecutionFacts, ImageLayer, write_beginning, write_image, write_index
from builder.locks.lock import Lock
from builder.names.spec import Constraint, EnvironmentSpec, PackageItem
from storage.digest import Descriptor, Digest
from storage.oci import DOCKER_LAYER_GZIP, DOCKER_MANIFEST, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST
from tests.support.builder.locks import LOCK, SPEC, package


def layer_of(text: str) -> tuple[Descriptor, Digest]:
    return Descriptor(OCI_LAYER_GZIP, Digest.of(text.encode()), len(text)), Digest.of(f"tar of {text}".encode())


BASE = BaseImage(
    "docker.io/library/debian:stable-slim",
    Digest.of(b"base"),
    "linux-64",
    (BaseLayer(*layer_of("base")),),
    {
        "config": {
            "Env": ["PATH=/usr/bin:/bin", "LANG=de_DE.UTF-8", "TZ=UTC"],
            "Entrypoint": ["/init"],
            "Cmd": ["bash"],
            "Labels": {"vendor": "debian"},
        },
        "history": [{"created_by": "ADD rootfs"}, {"created_by": "CMD bash", "empty_layer": True}],
    },
)
LAYERS = [
    ImageLayer(*layer_of("numpy"), packages=("numpy-2.1.0-py312h1_0",)),
    ImageLayer(*layer_of("rest"), packages=("python-3.12.8-h1_1_cpython", "tzdata-2026a-h0_0")),
]
FACTS = ExecutionFacts(entrypoint="/opt/conda/.condery/entrypoint", shell="/bin/sh")


def config_of(lock: Lock = LOCK, base: BaseImage = BASE, facts: ExecutionFacts = FACTS) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(write_image(lock, "linux-64", base, LAYERS, facts).config)
    return document


def test_config() -> None:
    config = config_of()
    assert (config["os"], config["architecture"]) == ("linux", "amd64")
    assert config["created"] == "2023-11-14T22:16:40Z"
    assert config["rootfs"] == {
        "type": "layers",
        "diff_ids": [BASE.layers[0].diff_id, *(layer.diff_id for layer in LAYERS)],
    }
    run = config["config"]
    assert run["Env"] == [
        "PATH=/opt/conda/bin:/usr/bin:/bin",
        "LANG=C.UTF-8",
        "TZ=UTC",
        "CONDA_PREFIX=/opt/conda",
        "CONDA_DEFAULT_ENV=/opt/conda",
        "SSL_CERT_FILE=/opt/conda/ssl/cacert.pem",
    ]
    assert run["Entrypoint"] == ["/opt/conda/.condery/entrypoint"]
    assert run["Cmd"] == ["python"]
    labels = run["Labels"]
    assert labels["vendor"] == "debian"
    assert labels["io.condery.lock"] == LOCK.key
    assert labels["org.opencontainers.image.title"] == "numpy, python =3.12"
    assert labels["org.opencontainers.image.base.digest"] == BASE.digest
    assert EnvironmentSpec.from_json(json.loads(labels["io.condery.spec"])) == SPEC


def test_history_tells_of_every_layer() -> None:
    config = config_of()
    told = [entry for entry in config["history"] if not entry.get("empty_layer")]
    assert len(told) == len(config["rootfs"]["diff_ids"])
    assert told[-1]["created_by"] == "condery: python-3.12.8-h1_1_cpython, tzdata-2026a-h0_0"
    silent = dataclasses.replace(BASE, config={})
    assert len(config_of(base=silent)["history"]) == 3


@pytest.mark.parametrize(
    ("lock", "facts", "expected"),
    [
        (Lock(SPEC, {"linux-64": ()}), FACTS, {"Cmd": ["/bin/sh"]}),
        (Lock(SPEC, {"linux-64": ()}), ExecutionFacts(), {"Cmd": None, "Entrypoint": None}),
        (LOCK, ExecutionFacts(user=1000), {"User": "1000:1000", "WorkingDir": HOME, "Entrypoint": None}),
        (LOCK, FACTS, {"User": None, "WorkingDir": "/"}),
    ],
)
def test_how_it_starts(lock: Lock, facts: ExecutionFacts, expected: dict[str, Any]) -> None:
    run = config_of(lock, facts=facts)["config"]
    assert {name: run.get(name) for name in expected} == expected


def test_variables() -> None:
    facts = ExecutionFacts(variables={"OMP_NUM_THREADS": "4", "LANG": "C"}, user=1000)
    env = dict(entry.split("=", 1) for entry in config_of(Lock(SPEC, {"linux-64": ()}), facts=facts)["config"]["Env"])
    assert env["OMP_NUM_THREADS"] == "4"
    assert env["LANG"] == "C"
    assert env["HOME"] == HOME
    assert "SSL_CERT_FILE" not in env


def test_manifests_name_one_config_and_the_same_layers() -> None:
    documents = write_image(LOCK, "linux-64", BASE, LAYERS, FACTS)
    oci, docker = json.loads(documents.manifest), json.loads(documents.docker_manifest)
    assert oci["config"]["digest"] == docker["config"]["digest"] == Digest.of(documents.config)
    assert oci["config"]["size"] == docker["config"]["size"] == len(documents.config)
    assert [layer["digest"] for layer in oci["layers"]] == [layer["digest"] for layer in docker["layers"]]
    assert {layer["mediaType"] for layer in oci["layers"]} == {OCI_LAYER_GZIP}
    assert {layer["mediaType"] for layer in docker["layers"]} == {DOCKER_LAYER_GZIP}
    assert oci["annotations"]["io.condery.lock"] == LOCK.key


@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")
def test_python_docker_reads_them() -> None:
    documents = write_image(LOCK, "linux-64", BASE, LAYERS, FACTS)
    manifest = schema.DockerManifestV2.model_validate_json(documents.docker_manifest)
    assert len(manifest.layers) == 3
    config = schema.DockerConfig.model_validate_json(documents.config)
    assert config.config.Cmd == ["python"]


def test_index() -> None:
    documents = write_image(LOCK, "linux-64", BASE, LAYERS, FACTS)
    index = json.loads(write_index(SPEC, [("linux-64", documents.manifest), ("linux-aarch64", b"{}")]))
    assert index["mediaType"] == OCI_INDEX
    assert [entry["platform"] for entry in index["manifests"]] == [
        {"os": "linux", "architecture": "amd64"},
        {"os": "linux", "architecture": "arm64"},
    ]
    assert index["manifests"][0]["digest"] == Digest.of(documents.manifest)
    assert index["manifests"][0]["size"] == len(documents.manifest)


NAMES = st.from_regex(r"[a-z0-9_][a-z0-9._-]{0,20}", fullmatch=True)
CONSTRAINTS = st.builds(Constraint, st.sampled_from([">", ">=", "<", "==", "!=", "=", "~="]), st.text(min_size=1))
ITEMS = st.builds(
    PackageItem, NAMES, st.none() | NAMES, st.lists(CONSTRAINTS, max_size=2).map(tuple), st.none() | NAMES
)
SPECS = st.builds(
    EnvironmentSpec,
    items=st.lists(ITEMS, max_size=4).map(tuple),
    channels=st.lists(st.text(), max_size=3).map(tuple),
    single=st.booleans(),
    until=st.none() | st.dates(),
    prefix=st.sampled_from(["/opt/conda", "/usr/local", '/with "quotes"']),
)


@given(SPECS)
def test_manifests_begin_as_told(spec: EnvironmentSpec) -> None:
    """Whatever is solved, and whether it was asked for with a date or not."""
    lock = Lock(dataclasses.replace(spec, until=None), {"linux-64": (package("python"),)})
    documents = write_image(lock, "linux-64", BASE, LAYERS, FACTS)
    assert documents.manifest.startswith(write_beginning(spec, OCI_MANIFEST))
    assert documents.docker_manifest.startswith(write_beginning(spec, DOCKER_MANIFEST))
    assert write_index(spec, [("linux-64", documents.manifest)]).startswith(write_beginning(spec, OCI_INDEX))
    assert json.loads(documents.manifest)["mediaType"] == OCI_MANIFEST


def test_beginnings_are_long_enough_to_be_sent_slowly() -> None:
    assert len(write_beginning(SPEC, OCI_MANIFEST)) >= 400
    assert len(write_beginning(SPEC, OCI_INDEX)) >= 400
    assert len(write_beginning(SPEC, DOCKER_MANIFEST)) >= 150


def test_a_date_leaves_no_trace() -> None:
    dated = dataclasses.replace(SPEC, until=datetime.date(2026, 1, 1))
    assert write_beginning(dated, OCI_MANIFEST) == write_beginning(SPEC, OCI_MANIFEST)
    assert write_index(dated, []) == write_index(SPEC, [])
