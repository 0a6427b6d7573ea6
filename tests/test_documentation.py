"""What the pages in docs/ say of the code: paths, the order of rooms, and the walks of a pull, a push and a sign-in."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import aiohttp
import pytest
from aiohttp import web

from builder.settings import BuilderSettings
from registry.access.token_route import DEVICE_GRANT
from registry.app import create_app
from registry.settings.model import Settings
from storage.digest import Digest
from storage.oci import OCI_INDEX, OCI_MANIFEST
from storage.settings import StorageSettings
from tests.support.registry.access import CLOSED
from tests.support.registry.browser import Browser
from tests.support.registry.people import PASSWORD, People, basic, bearer
from tests.support.registry.serving import Site, serving
from tests.support.rooms import ORDER, PACKAGES, ROOT

DOCS = ROOT / "docs"
ARCHITECTURE = DOCS / "architecture.md"
PAGES = [*sorted(DOCS.glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
WIDTH = 120
GENERATED = {"settings.md"}

MODULE = re.compile(r"`((?:registry|builder|auth|storage|tests|bench)/[\w/]+\.\w+)`")
TEST = re.compile(r"[\w/]*\btest_\w+\.py")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")

EVERYWHERE = re.compile(r".*/(?:errors|settings|upkeep_settings)\.py")
"""Classes of errors and settings, which a walk need not name."""


def pages(*without: str) -> list[object]:
    return [pytest.param(page, id=page.name) for page in PAGES if page.name not in without]


@pytest.mark.parametrize("page", pages())
def test_every_module_that_a_page_names_is_there(page: Path) -> None:
    assert [name for name in MODULE.findall(page.read_text()) if not (ROOT / name).exists()] == []


def test_every_test_that_holds_a_promise_of_security_is_there() -> None:
    named = TEST.findall((DOCS / "security.md").read_text())
    assert named
    assert [name for name in named if not (ROOT / "tests" / name).exists()] == []


@pytest.mark.parametrize("page", pages())
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    assert [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()] == []


def test_every_page_is_linked_from_the_first() -> None:
    linked = set(LINK.findall((DOCS / "README.md").read_text()))
    assert {page.name for page in DOCS.glob("*.md")} - linked == {"README.md"}


@pytest.mark.parametrize("page", pages(*GENERATED))
def test_lines_are_wrapped(page: Path) -> None:
    code = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        code ^= line.startswith("```")
        if not code and not line.startswith(("|", "    ")):
            assert len(line) <= WIDTH, f"{page.name}:{number}"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_page_has_the_order_of_rooms_that_is_held(package: str) -> None:
    [rooms] = re.findall(rf"^\| `{package}` \| (.*) \|$", ARCHITECTURE.read_text(), re.MULTILINE)
    assert rooms.split(", ") == ORDER[package]


def walk(heading: str) -> set[str]:
    """The modules that a section of the page names, and the one on every request."""
    text = ARCHITECTURE.read_text()
    sections = {part.partition("\n")[0]: part for part in text.split("\n## ")}
    return set(MODULE.findall(sections[heading] + sections["Every request"]))


@contextmanager
def modules_called() -> Iterator[set[str]]:
    """The modules of the packages of which functions are called in this thread while the block runs."""
    prefixes = tuple(f"{ROOT}/{package}/" for package in PACKAGES)
    called: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        # class bodies and modules run when something is imported
        if event == "call" and code.co_filename.startswith(prefixes) and code.co_flags & 1:
            called.add(code.co_filename.removeprefix(f"{ROOT}/"))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield called
    finally:
        sys.setprofile(before)


async def test_the_walks_name_every_module_that_a_pull_and_a_push_call(tmp_path: Path, sample_channel: Path) -> None:
    settings = Settings(
        builder=BuilderSettings(channels=(sample_channel.as_uri(),)), storage=StorageSettings(data_directory=tmp_path)
    )
    runner = web.AppRunner(create_app(settings))
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0]
        async with aiohttp.ClientSession(f"http://{host}:{port}") as client:
            with modules_called() as pulling:
                await pull(client)
            with modules_called() as pushing:
                await push(client)
    finally:
        await runner.cleanup()
    assert "builder/build.py" in pulling
    assert "registry/v2/uploads.py" in pushing
    # while others pull, a server looks for builds of environments that nobody works on
    assert unnamed(pulling, "A pull", "A build", "A named environment") == []
    # the build's last beats and turns may come while something is pushed
    assert unnamed(pushing, "A named environment", "A push", "A build") == []


async def test_the_walk_names_every_module_that_a_sign_in_calls(tmp_path: Path) -> None:
    async with serving(tmp_path, sign_in=CLOSED) as site:
        await People(site).add("ada", "team/*=viewer", password=PASSWORD)
        with modules_called() as signing_in:
            await sign_in_by_docker(site)
            await sign_in_by_browser(site)
    assert "auth/tokens/refresh_tokens.py" in signing_in
    assert "auth/sign_in/device.py" in signing_in
    assert unnamed(signing_in, "A named environment", "A sign-in by docker", "A pull") == []


async def sign_in_by_docker(site: Site) -> None:
    asked = "/token?service=condery&scope=repository:team/app:pull"
    async with site.request("GET", "/v2/") as answer:
        assert answer.status == 401
    async with site.request("GET", f"{asked}&offline_token=true", headers=basic("ada")) as answer:
        refresh = (await answer.json())["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": refresh, "scope": "repository:team/app:pull"}
    async with site.request("POST", "/token", data=form) as answer:
        token = (await answer.json())["access_token"]
    async with site.request("GET", "/v2/team/app/manifests/v1", headers=bearer(token)) as answer:
        assert answer.status == 404, "it may look, and there is nothing"


async def sign_in_by_browser(site: Site) -> None:
    browser = Browser(site)
    assert (await browser.log_in("ada", PASSWORD)).status == 303
    answer = await browser.ask("POST", "/device/code", form={"client_id": "condery"})
    codes = json.loads(answer.text)
    form = await browser.open_form(f"/device?user_code={codes['user_code']}")
    assert (await browser.ask("POST", "/device", form={**form, "answer": "allow"})).status == 200
    sent = {"grant_type": DEVICE_GRANT, "device_code": codes["device_code"], "client_id": "condery"}
    async with site.request("POST", "/token", data=sent) as got:
        assert got.status == 200


def unnamed(called: set[str], *headings: str) -> list[str]:
    named = set().union(*map(walk, headings))
    return sorted(name for name in called - named if not EVERYWHERE.fullmatch(name))


async def pull(client: aiohttp.ClientSession) -> None:
    name = "/v2/conda-store-dynamic/python"
    for _ in range(2):
        async with client.get(f"{name}/manifests/latest", headers={"Accept": OCI_INDEX}) as answer:
            assert answer.status == 200
            index = await answer.json(content_type=None)
    async with client.get(f"{name}/tags/list") as answer:
        tags = (await answer.json())["tags"]
    [lock] = [tag for tag in tags if tag.startswith("lock-")]
    for path in (f"{name}/manifests/{lock}", f"{name}.ge.3/manifests/latest"):
        async with client.get(path, headers={"Accept": OCI_INDEX}) as answer:
            assert answer.status == 200, await answer.text()
    async with client.get(f"{name}/manifests/{index['manifests'][0]['digest']}") as answer:
        manifest = await answer.json(content_type=None)
    async with client.get(f"{name}/blobs/{manifest['layers'][0]['digest']}") as answer:
        assert answer.status == 200
        await answer.read()


async def push(client: aiohttp.ClientSession) -> None:
    content = b"{}"
    async with client.post("/v2/team/app/blobs/uploads/") as answer:
        assert answer.status == 202
        session = answer.headers["Location"]
    async with client.patch(session, data=content) as answer:
        assert answer.status == 202
        session = answer.headers["Location"]
    async with client.put(session, params={"digest": Digest.of(content)}) as answer:
        assert answer.status == 201
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest.of(content), "size": 2}
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": []}
    headers = {"Content-Type": OCI_MANIFEST}
    async with client.put("/v2/team/app/manifests/v1", json=document, headers=headers) as answer:
        assert answer.status == 201, await answer.text()
