"""Dry solves, and what builds changed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from storage.database import tables
from storage.database.environment_tables import environment_build, specification
from tests.support.builder.packages import Package
from tests.support.registry.environments import Place, serving_environments

PEOPLE = {
    "admin": ("*/*=admin",),
    "ed": ("team/*=editor",),
    "bob": ("team/*=viewer",),
    "eve": ("other/*=editor",),
}
PACKAGES = (Package("one", "1.0"), Package("one", "2.0"), "two", Package("three", depends=("two",)))


def written(place: Place, *specs: str, name: str = "science", **more: Any) -> dict[str, Any]:
    text = json.dumps({"name": name, "channels": [place.channel], "dependencies": list(specs), **more})
    return {"specification": text, "namespace": "team"}


async def count(place: Place) -> list[int]:
    async with place.parts.blobs.database.reading() as connection:
        return [
            int((await connection.execute(select(func.count()).select_from(table))).scalar_one())
            for table in (tables.lock, tables.resolution, tables.build, environment_build, specification, tables.image)
        ]


async def test_a_dry_run_says_what_a_build_would_be_and_leaves_nothing(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, PEOPLE, PACKAGES) as admin:
        build = await admin.make("science", "one=1.0", "two")
        before = await count(admin)
        plan = (await admin.ask("POST", "solve/", written(admin, "one", "three"))).data
        packages = plan["platforms"]["linux-64"]["packages"]
        assert [each["name"] for each in packages] == ["one", "two", "three"]
        assert plan["platforms"]["linux-64"]["size"] == sum(each["size"] for each in packages) > 0
        assert plan["against"] == build["id"]
        difference = plan["difference"]["linux-64"]
        assert [each["name"] for each in difference["added"]] == ["three"]
        assert [(each["before"]["version"], each["after"]["version"]) for each in difference["up"]] == [("1.0", "2.0")]
        assert (difference["removed"], difference["down"], difference["other"]) == ([], [], [])
        assert (plan["cached"]["archives"], plan["cached"]["fragments"], plan["cached"]["image"]) == (3, 1, False)
        same = (await admin.ask("POST", "solve/", written(admin, "one=1.0", "two"))).data
        assert (same["lock"], same["cached"]["image"]) == (build["lock"], True)
        other = (await admin.ask("POST", "solve/", written(admin, "one", name="new"))).data
        assert (other["against"], len(other["difference"]["linux-64"]["added"])) == (None, 1)
        assert await count(admin) == before


async def test_who_may_solve(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, PEOPLE, PACKAGES) as admin:
        await admin.make("science", "one")
        document = written(admin, "one")
        # bob and eve may in namespaces of their own
        for who, solves, dry in (("ed", 200, 200), ("bob", 403, 200), ("eve", 403, 200), (None, 401, 401)):
            place = admin.by(who)
            assert (await place.ask("POST", "solve/", document)).status == solves
            assert (await place.ask("GET", "specification/?conda=one")).status == dry
        nameless = {"specification": json.dumps({"dependencies": ["one"]}), "namespace": "team"}
        assert (await admin.by("ed").ask("POST", "solve/", nameless)).status == 200


async def test_what_conda_stores_command_line_asks(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, PEOPLE, PACKAGES) as admin:
        channel = (await admin.get("channel/")).data[0]
        for query in ("channel={0}&conda=one", "channels={0}&conda=three&conda=one/"):
            found = (await admin.get(f"specification/?{query.format(admin.channel)}")).json()
            assert set(found) == {"status", "solve"}
            solved = {each["name"]: each for each in found["solve"]}
            assert solved["one"]["version"] == "2.0"
            assert solved["one"]["channel_id"] == channel["id"]
            assert solved["one"]["size"] > 0
        assert set(solved) == {"one", "two", "three"}
        for query, told in (
            ("conda=tow", "no package tow"),
            ("conda=one&pip=requests", "add python"),
            ("conda=one=>2", "is not a match spec"),
            ("channel=file:///elsewhere&conda=one", "channel file:///elsewhere is not allowed"),
            ("condo=one", "there is no such parameter"),
        ):
            refused = await admin.ask("GET", f"specification/?{query}")
            assert (refused.status, told in refused.message) == (400, True), refused.message


async def test_rules_of_the_namespace_hold_for_dry_runs(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, PEOPLE, PACKAGES) as admin:
        await admin.ask("PUT", "setting/team/", {"denied_packages": ["one >=2"], "included_packages": ["two"]})
        plan = (await admin.ask("POST", "solve/", written(admin, "one"))).data
        found = [(each["name"], each["version"]) for each in plan["platforms"]["linux-64"]["packages"]]
        assert found == [("one", "1.0"), ("two", "1.0")]
        refused = await admin.ask("POST", "solve/", written(admin, "one=2"))
        assert (refused.status, "denied by the settings of team" in refused.message) == (400, True), refused.message
        lock = f"@EXPLICIT\n{admin.channel}/noarch/absent-1-0.conda#{'0' * 32}\n"
        sent = {"specification": lock, "namespace": "team", "environment_name": "science"}
        planned = await admin.ask("POST", "solve/", sent)
        assert [each["name"] for each in planned.data["platforms"]["linux-64"]["packages"]] == ["absent"], planned.body


async def test_a_dry_run_counts_as_a_build_of_its_caller(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, PEOPLE, PACKAGES, builds_per_caller=1) as admin:
        answers = await asyncio.gather(*(admin.ask("POST", "solve/", written(admin, "one", name=n)) for n in "abcd"))
        assert {each.status for each in answers} == {200, 429}
        assert (await admin.ask("POST", "solve/", written(admin, "one"))).status == 200


async def test_what_a_build_changed_against_the_one_before(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, PEOPLE, PACKAGES) as admin:
        first = await admin.make("science", "one=1.0")
        failed = await admin.make("science", "tow")
        third = await admin.make("science", "one", "two")
        other = await admin.make("other", "one")
        begin = (await admin.get(f"build/{first['id']}/difference/")).data
        assert (begin["against"], len(begin["platforms"]["linux-64"]["added"])) == (None, 1)
        found = (await admin.get(f"build/{third['id']}/difference/")).data
        assert found["against"] == first["id"]
        assert [each["name"] for each in found["platforms"]["linux-64"]["up"]] == ["one"]
        assert [each["name"] for each in found["platforms"]["linux-64"]["added"]] == ["two"]
        back = (await admin.get(f"build/{first['id']}/difference/?against={third['id']}")).data
        assert [each["name"] for each in back["platforms"]["linux-64"]["removed"]] == ["two"]
        for path, status in (
            (f"build/{failed['id']}/difference/", 409),
            (f"build/{third['id']}/difference/?against={failed['id']}", 409),
            (f"build/{third['id']}/difference/?against={other['id']}", 404),
            (f"build/{third['id']}/difference/?against=x", 400),
        ):
            assert (await admin.ask("GET", path)).status == status, path
        assert (await admin.by("bob").ask("GET", f"build/{third['id']}/difference/")).status == 200
        assert (await admin.by("eve").ask("GET", f"build/{third['id']}/difference/")).status == 404


async def test_an_environment_builds_on_another_that_its_maker_may_read(tmp_path: Path) -> None:
    people = PEOPLE | {"eve": ("other/*=editor", "team/base=viewer")}
    async with serving_environments(tmp_path, people, PACKAGES) as admin:
        await admin.make("base", "one=1.0")
        await admin.make("secret", "one=1.0")
        eve = admin.by("eve")

        async def ask(place: Place, extends: str, name: str = "mine", path: str = "specification/") -> Any:
            document = written(admin, "two", name=name, extends=extends) | {"namespace": "other"}
            return await place.ask("POST", path, document)

        answer = await ask(eve, "team/base")
        built = await eve.end_of(answer.data["build_id"])
        assert built["status"] == "COMPLETED"
        plan = (await ask(eve, "team/base", path="solve/")).data
        assert {(each["name"], each["version"]) for each in plan["platforms"]["linux-64"]["packages"]} == {
            ("one", "1.0"), ("two", "1.0"),
        }  # fmt: skip
        for path in ("specification/", "solve/"):
            hidden, missing = await ask(eve, "team/secret", path=path), await ask(eve, "team/nothing", path=path)
            assert hidden.status == missing.status == 400
            assert hidden.message == missing.message.replace("nothing", "secret")
        itself = await ask(eve, "other/mine")
        assert (itself.status, "is this environment itself" in itself.message) == (400, True)
        platforms = written(admin, "two", name="mine", extends="team/base", platforms=["linux-aarch64"])
        refused = await eve.ask("POST", "solve/", platforms | {"namespace": "other"})
        assert "team/base is not built for linux-aarch64" in refused.message
        await admin.named.delete("team", "base", by="admin")
        again = await admin.named.rebuild(built["id"], by="eve")
        assert "there is no environment 'team/base'" in (await eve.end_of(again.id))["status_info"]
