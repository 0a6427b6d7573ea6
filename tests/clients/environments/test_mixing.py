"""docs/mixing-conda-and-pypi.md as its readers do it: names and a file, an image in docker, its files, a lock back."""

from __future__ import annotations

import asyncio
import ensurepip
import json
import re
import threading
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder.names.image_name import parse_specs
from builder.names.items import Pypi, parse_items
from builder.settings import BuilderSettings
from tests.support.programs import Docker
from tests.support.pypi.index_server import IndexServer, Wheel
from tests.support.registry.commands import run_line
from tests.support.server import Server

PAGE = (Path(__file__).parents[3] / "docs/mixing-conda-and-pypi.md").read_text()
CODE = """
import humanize, importlib.metadata as metadata, json, numpy, requests, socks
print(json.dumps({each.name.lower(): each.version for each in metadata.distributions()}))
"""


@pytest.fixture(scope="module")
def index() -> Iterator[IndexServer]:
    server = IndexServer()
    server.add("humanize", "4.0")
    server.add("requests", "2.31.0", ["idna>=2", "pysocks>=1; extra == 'socks'"], headers=["Provides-Extra: socks"])
    server.add("requests", "1.0")
    server.add("idna", "3.0")
    server.add("pysocks", "1.7.1", module="socks")
    server.add_source("docopt", "0.6.2")
    # what comes with python itself
    [pip] = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
    server.wheels.append(Wheel("pip", pip.name, pip.read_bytes(), b"", {}))
    server.has_metadata = False
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(30)
    yield server
    asyncio.run_coroutine_threadsafe(server.__aexit__(), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)
    loop.close()


@pytest.fixture(scope="module")
def mixing(tmp_path_factory: pytest.TempPathFactory, sample_channel: Path, index: IndexServer) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("mixing")
    flags = ("--channels", sample_channel.as_uri(), "--pypi-indexes", index.url)
    server = Server(flags, directory / "data", directory / "log")
    server.start()
    yield server
    server.kill()


def ask(server: Server, path: str, document: Any = None) -> bytes:
    body = json.dumps(document).encode() if document is not None else None
    request = urllib.request.Request(f"{server.url}{path}", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        content: bytes = answer.read()
    return content


def build(server: Server, **document: Any) -> dict[str, Any]:
    made = json.loads(ask(server, "/api/v1/specification/", {"namespace": "team", **document}))
    until = time.monotonic() + 120
    while time.monotonic() < until:
        found: dict[str, Any] = json.loads(ask(server, f"/api/v1/build/{made['data']['build_id']}/"))["data"]
        if found["status"] not in ("QUEUED", "BUILDING"):
            return found
        time.sleep(0.1)
    raise TimeoutError


def test_the_page_shows_names_and_specs_that_are_read() -> None:
    (name,) = re.findall(r"`conda-store-dynamic/(\S+)`", PAGE)
    assert [wish for item in name.split("/") for wish in parse_items(item, ()) if isinstance(wish, Pypi)] == [
        Pypi("requests>=2")
    ]
    (command,) = re.findall(r"`condery build (.*)`", PAGE)
    spec = parse_specs([each.strip("'") for each in command.split()], BuilderSettings())
    assert spec.requirements == ("requests>=2",)


def test_a_name_with_a_package_of_pypi(mixing: Server, docker: Docker) -> None:
    image = f"{mixing.address}/conda-store-dynamic/python/numpy/pypi__requests.ge.2/pypi__pip"
    docker.pull(image)
    listed = {each["name"]: each["version"] for each in json.loads(docker.run(image, "pip", "list", "--format=json"))}
    assert {name: listed[name] for name in ("requests", "idna")} == {"requests": "2.31.0", "idna": "3.0"}
    assert "numpy" in listed
    assert docker.run(image, "pip", "check").strip() == "No broken requirements found."
    docker.remove_images_of(mixing.address)


def test_a_file_of_the_page_and_its_locks(mixing: Server, docker: Docker) -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    # the sample channel has one python, which is this one's version
    file = yaml.safe_load(text) | {"channels": []}
    file["dependencies"][0] = "python"
    made = build(mixing, specification=yaml.safe_dump(file))
    assert made["status"] == "COMPLETED", made["status_info"]
    image = f"{mixing.address}/team/analysis"
    docker.pull(image)
    found = json.loads(docker.run(image, "python", "-c", CODE))
    assert {name: found[name] for name in ("humanize", "requests", "pysocks", "idna")} == {
        "humanize": "4.0",
        "requests": "2.31.0",
        "pysocks": "1.7.1",
        "idna": "3.0",
    }
    docker.remove_images_of(mixing.address)
    files = f"/api/v1/build/{made['id']}"
    pylock = tomllib.loads(ask(mixing, f"{files}/pylock.toml").decode())
    assert {each["name"] for each in pylock["packages"]} == {"humanize", "requests", "pysocks", "idna"}
    for name in ("conda-lock.yml", "pixi.lock"):
        lock = ask(mixing, f"{files}/{name}").decode()
        again = build(mixing, specification=lock, is_lockfile=True, environment_name=f"from-{name[:4]}")
        assert again["status"] == "COMPLETED", again["status_info"]
        copied = ask(mixing, f"/api/v1/build/{again['id']}/pylock.toml").decode()
        assert [each["wheels"][0]["hashes"] for each in tomllib.loads(copied)["packages"]] == [
            each["wheels"][0]["hashes"] for each in pylock["packages"]
        ]


def test_an_export_is_imported(mixing: Server, tmp_path: Path) -> None:
    made = build(
        mixing, specification=yaml.safe_dump({"name": "old", "dependencies": ["python", {"pip": ["humanize"]}]})
    )
    assert made["status"] == "COMPLETED", made["status_info"]
    archive = str(tmp_path / "old.tar")
    for line in (f"env export team/old {archive}", f"env import {archive} --namespace lab"):
        run_line(mixing.data_dir, " ".join([line, *mixing.flags]))
    listed = json.loads(ask(mixing, "/api/v1/environment/?namespace=lab"))["data"]
    assert [each["name"] for each in listed] == ["old"]
    copied = ask(mixing, f"/api/v1/build/{listed[0]['current_build_id']}/pylock.toml").decode()
    assert [each["name"] for each in tomllib.loads(copied)["packages"]] == ["humanize"]


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ("pypi__docopt", "docopt"),
        ("pypi__reqests", "did you mean"),
        ("pypi__requests.ge.99", "requests"),
    ],
)
def test_what_cannot_be_had_is_said(mixing: Server, item: str, told: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(mixing, f"/v2/conda-store-dynamic/python/{item}/manifests/latest")
    (error,) = json.loads(caught.value.read())["errors"]
    assert caught.value.code == 404
    assert told in error["message"], error["message"]
