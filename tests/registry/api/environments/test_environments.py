"""Environments and builds by the REST API: asking for a build, lists, and one of them."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.registry.environments import serving_environments

PEOPLE = {"ann": ("team/*=admin",), "bob": ("team/*=viewer",), "eve": ("other/*=admin",)}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?")


async def test_from_what_is_written_down_to_a_build_and_back(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, PEOPLE) as ann:
        build = await ann.post("Science", "one", environment_description="for all")
        done = await ann.end_of(build)
        assert done["status"] == "COMPLETED", done
        assert done["specification"]["name"] == "Science"
        spec = done["specification"]["spec"]
        assert spec == {
            "name": "Science",
            "prefix": None,
            "channels": [ann.channel],
            "dependencies": ["one"],
            "variables": {},
        }
        assert {each["artifact_type"] for each in done["build_artifacts"]} == {
            *("LOGS", "LOCKFILE", "YAML", "CONDA_PACK", "DOCKER_MANIFEST"),
        }
        for name in ("scheduled_on", "started_on", "ended_on"):
            assert TIME.fullmatch(done[name])
        found = (await ann.get("environment/team/Science/")).data
        current = found.pop("current_build")
        assert (current["id"], current["status"]) == (build, "COMPLETED")
        listed = (await ann.get("environment/")).json()
        assert listed == {"status": "ok", "page": 1, "size": 1, "count": 1, "data": [found]}
        assert found["namespace"] == {"id": found["namespace"]["id"], "name": "team"}
        assert (found["name"], found["description"], found["repository"]) == ("Science", "for all", "team/science")
        assert found["current_build_id"] == build
        builds = (await ann.get("build/")).json()
        assert builds["data"] == [current]
        assert "specification" not in builds["data"][0]


async def test_who_may_not_see_a_thing_is_told_what_is_told_of_nothing(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, PEOPLE) as ann:
        build = await ann.post("Science", "one")
        eve, bob, anybody = ann.by("eve"), ann.by("bob"), ann.by(None)
        assert (await bob.get(f"build/{build}/")).data["id"] == build
        for path, other in (
            (f"build/{build}/", f"build/{build + 100}/"),
            ("environment/team/Science/", "environment/team/Nothing/"),
        ):
            for who, status in ((eve, 404), (anybody, 401)):
                hidden, missing = await who.ask("GET", path), await who.ask("GET", other)
                assert hidden.status == missing.status == status
                told = missing.message.replace(str(build + 100), str(build)).replace("Nothing", "Science")
                assert hidden.message == told
        for path in ("environment/", "build/", "environment/?page=1&size=10", "build/?page=1&size=10"):
            for who in (eve, anybody):
                listed = (await who.get(path)).json()
                assert (listed["count"], listed["data"]) == (0, [])
        document = {"specification": "name: x\ndependencies: []\n", "namespace": "team"}
        for who, status in ((bob, 403), (eve, 403), (anybody, 401)):
            refused = await who.ask("POST", "specification/", document)
            assert refused.status == status
            assert "environment::create" in refused.message


async def test_without_a_namespace_it_goes_to_ones_own(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, PEOPLE) as ann:
        await ann.post("x", "one", namespace=None)
        assert [each["namespace"]["name"] for each in (await ann.get("environment/")).data] == ["ann"]
