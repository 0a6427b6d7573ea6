"""Namespaces, their role mappings and their usage, by the REST API."""

from __future__ import annotations

from pathlib import Path

from tests.support.registry.environments import serving_environments

PEOPLE = {"root": ("*/*=admin",), "ann": ("team/*=admin", "near/*=editor"), "bob": ("team/*=viewer",)}


async def test_a_namespace_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, PEOPLE) as root:
        ann, bob = root.by("ann"), root.by("bob")
        for name in ("team", "other"):
            assert (await root.ask("POST", f"namespace/{name}/")).status == 200
        again = await root.ask("POST", "namespace/team/")
        assert (again.status, again.json()["code"]) == (409, "CONFLICT")
        assert [each["name"] for each in (await root.get("namespace/")).data] == ["other", "team"]
        listed = (await bob.get("namespace/?page=1&size=100/")).json()
        assert [sorted(each) for each in listed["data"]] == [["id", "name"]]
        assert (listed["count"], listed["data"][0]["name"]) == (1, "team")
        assert (await ann.ask("PUT", "namespace/team/metadata", {"any": ["thing"]})).status == 200
        shown = (await bob.get("namespace/team/")).data
        assert (shown["name"], shown["metadata_"], shown["role_mappings"]) == ("team", {"any": ["thing"]}, [])
        assert (await bob.ask("DELETE", "namespace/team/")).status == 403
        for path in ("namespace/other/", "namespace/nothing/"):
            hidden = await bob.ask("GET", path)
            assert hidden.status == 404
            assert hidden.message == f"there is no namespace '{path.split('/')[1]}'"
        await ann.make("app", "one")
        full = await ann.ask("DELETE", "namespace/team/")
        assert (full.status, full.message) == (
            409,
            "namespace team holds repositories, such as team/app; delete what is in them first",
        )
        assert (await root.ask("DELETE", "namespace/other/")).status == 200


async def test_a_namespace_with_an_environment_that_was_never_built_stays(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, PEOPLE) as root:
        assert (await root.make("app", "three"))["status"] == "FAILED"
        assert (await root.ask("DELETE", "namespace/team/")).status == 409
        assert (await root.get("environment/")).json()["count"] == 1


async def test_role_mappings(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, PEOPLE) as root:
        await root.ask("POST", "namespace/team/")
        ann = root.by("ann")
        made = await ann.ask("POST", "namespace/team/role", {"other_namespace": "near", "role": "viewer"})
        assert made.status == 200, made.body
        role = (await ann.get("namespace/team/role?other_namespace=near/")).data
        assert {name: role[name] for name in ("namespace", "other_namespace", "role", "entity")} == {
            "namespace": "team",
            "other_namespace": "near",
            "role": "viewer",
            "entity": "near/*",
        }
        assert (await ann.get("namespace/team/roles")).data == [role]
        assert (await ann.get("namespace/team/")).data["role_mappings"][0]["entity"] == "near/*"
        more = await ann.ask("PUT", "namespace/team/role", {"other_namespace": "near", "role": "admin"})
        assert (more.status, more.json()["code"]) == (403, "DENIED"), "nobody grants what they lack"
        assert (
            await ann.ask("PUT", "namespace/team/role", {"other_namespace": "near", "role": "editor"})
        ).status == 200
        assert [each["role"] for each in (await ann.get("namespace/team/roles")).data] == ["editor"]
        assert (await ann.ask("DELETE", "namespace/team/role", {"other_namespace": "near"})).status == 200
        missing = await ann.ask("DELETE", "namespace/team/role", {"other_namespace": "near"})
        assert missing.status == 404
        odd = await ann.ask("POST", "namespace/team/role", {"other_namespace": "near", "role": "emperor"})
        assert (odd.status, "emperor" in odd.message) == (400, True)


async def test_usage_counts_what_is_there_and_only_where_one_may_read(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, PEOPLE) as root:
        build = await root.make("app", "one")
        await root.make("app", "one")
        await root.make("app", "one", namespace="elsewhere")
        assert set((await root.get("usage/")).data) == {"team", "elsewhere"}
        team = {"num_environments": 1, "num_builds": 2, "storage": build["size"]}
        assert (await root.by("bob").get("usage")).data == {"team": team}
        assert (await root.by(None).get("usage")).data == {}


async def test_anybody_may_know_the_version(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, PEOPLE) as root:
        for path in ("", "/"):
            async with root.client.get(f"{root.url}/api/v1{path}") as answer:
                assert (await answer.json())["data"].keys() == {"version"}
