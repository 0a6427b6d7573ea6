"""What is made of a build, by the REST API."""

from __future__ import annotations

import json
from pathlib import Path

from registry.api.environments.files import BUILD_FILES
from registry.routes import ROUTES
from tests.support.registry.environments import Place, serving_environments


async def test_every_file_of_a_build(tmp_path: Path) -> None:
    async with serving_environments(tmp_path) as place:
        build = (await place.make("app", "one"))["id"]
        nothing = await place.ask("GET", f"build/{build}/pylock.toml")
        assert (nothing.status, "this environment has none" in nothing.message) == (404, True)
        for end in [each for each in BUILD_FILES if each != "pylock.toml"]:
            answer = await place.get(f"build/{build}/{end}")
            assert answer.body, end
            assert answer.headers["ETag"]
            again = await place.ask("GET", f"build/{build}/{end.removesuffix('/')}", Range="bytes=0-3")
            assert (again.status, again.body) == (206, answer.body[:4]), end
        lock = (await place.get(f"build/{build}/lockfile/")).body
        for end in ("conda-lock.yml", "conda-lock.yaml", "lockfile/", "lockfile"):
            assert (await place.get(f"environment/team/app/{end}")).body == lock
        assert b"name: one" in lock
        report = json.loads((await place.get(f"build/{build}/report")).body)
        assert report["lock"].startswith("lock-")
        image = (await place.get(f"build/{build}/docker")).body.decode()
        assert image == f"{place.url.partition('://')[2]}/team/app:{build}"
        installer = await place.ask("GET", f"build/{build}/installer/")
        assert installer.status == 400
        assert "conda-lock.yml" in installer.message


async def test_the_packages_of_a_build(tmp_path: Path) -> None:
    async with serving_environments(tmp_path) as place:
        build = (await place.make("app", "one", "two"))["id"]
        listed = (await place.get(f"build/{build}/packages/?page=1&size=1&sort_by=name&order=desc")).json()
        assert (listed["page"], listed["size"], listed["count"]) == (1, 1, 2)
        (package,) = listed["data"]
        assert (package["name"], package["subdir"]) == ("two", "linux-64")
        assert package["channel"] == {"id": package["channel"]["id"], "name": place.channel, "last_update": None}
        found = (await place.get("package/?search=two&exact=true")).data
        assert [(each["id"], each["channel"]["id"]) for each in found] == [(package["id"], package["channel"]["id"])]
        assert (await place.get(f"build/{build}/packages?search=ON")).json()["count"] == 1
        assert (await place.get(f"build/{build}/packages?search=on&exact=true")).json()["count"] == 0
        refused = await place.ask("GET", f"build/{build}/packages?platform=plan-9")
        assert (refused.status, refused.message) == (
            400,
            "query parameter platform='plan-9': expected one of linux-64",
        )


async def test_the_log_and_the_events_of_a_build(tmp_path: Path) -> None:
    async with serving_environments(tmp_path) as place:
        build = (await place.make("app", "one"))["id"]
        text = (await place.get(f"build/{build}/logs/")).body.decode()
        assert "QUEUED: team/app, asked for by admin" in text
        stream = await place.get(f"build/{build}/logs?follow=1")
        assert stream.headers["Content-Type"] == "text/event-stream"
        assert stream.body.endswith(b"data: {}\n\n")
        assert b"event: state" in (await place.get(f"build/{build}/events")).body


async def test_a_build_that_failed_has_no_files_and_says_why(tmp_path: Path) -> None:
    async with serving_environments(tmp_path) as place:
        failed = await place.make("app", "three")
        assert failed["status"] == "FAILED"
        assert "no package three" in failed["status_info"]
        assert [each["artifact_type"] for each in failed["build_artifacts"]] == ["LOGS"]
        for end in ("docker/", "archive/", "lockfile/"):
            refused = await place.ask("GET", f"build/{failed['id']}/{end}")
            assert refused.status == 400
            assert refused.message == f"build {failed['id']} is FAILED: {failed['status_info']}"
        listed = (await place.get(f"build/{failed['id']}/packages/")).json()
        assert (listed["count"], listed["data"]) == (0, [])


READS = sorted({row.path for row in ROUTES if "{build}" in row.path or "{environment}" in row.path})


async def test_foreign_ids_are_nothing_on_every_route(foreign: Place) -> None:
    """CVE-2022-31667 (Harbor): whatever is done with another's build or environment, it is not there."""
    for path in READS:
        filled = path.removeprefix("/api/v1/").replace("{build}", "1")
        filled = filled.replace("{namespace}/{environment}", "team/app")
        elsewhere = filled.replace("/1/", "/9/").replace("team/app", "team/none")
        for method in {method for row in ROUTES if row.path == path for method in row.methods} - {"HEAD"}:
            document: dict[str, str] | None = {} if method == "PUT" else None
            answer = await foreign.ask(method, filled, document)
            assert answer.status == 404, (method, path, answer.body)
            missing = await foreign.ask(method, elsewhere, document)
            assert missing.status == 404, (method, path, missing.body)
            assert missing.message.replace("9", "1").replace("none", "app") == answer.message, (method, path)
