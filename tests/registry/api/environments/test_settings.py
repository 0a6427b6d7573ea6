"""Settings of environments: in three layers, who may read and set them, and what they do to builds."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from builder.environments.settings import SettingValues
from builder.locks.lock import Lock
from registry.api.environments.wanted_schemas import Settings
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel
from tests.support.registry.environments import Place, serving_environments

PEOPLE = {
    "admin": ("*/*=admin",),
    "ann": ("team/*=admin",),
    "ed": ("team/*=editor",),
    "bob": ("team/*=viewer",),
    "one": ("team/science=admin",),
    "eve": ("other/*=admin",),
}


async def put(place: Place, path: str, **values: Any) -> Any:
    answer = await place.ask("PUT", f"setting/{path}", values)
    assert answer.status == 200, answer.body
    return answer.json()


def test_what_is_described_is_what_can_be_set() -> None:
    assert list(Settings.model_fields) == [each.name for each in fields(SettingValues)]


async def test_who_may_read_and_set_which_layer(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, PEOPLE) as admin:
        await admin.end_of(await admin.post("Science", "one"))
        paths = ("setting/", "setting/team/", "setting/team/Science/")
        readers = {"ann": (403, 200, 200), "ed": (403, 200, 200), "bob": (403, 403, 403), "one": (403, 403, 200),
                   "eve": (403, 403, 404), None: (401, 401, 401)}  # fmt: skip
        writers = readers | {"ed": (403, 403, 403)}
        for table, method, document in ((readers, "GET", None), (writers, "PUT", {"kept_days": 3})):
            for who, statuses in table.items():
                found = tuple([(await admin.by(who).ask(method, path, document)).status for path in paths])
                assert found == statuses, (who, method)
        for path in paths:
            assert (await admin.ask("PUT", path, {"kept_days": 3})).status == 200


async def test_the_nearest_layer_counts_and_null_takes_away(tmp_path: Path) -> None:
    async with serving_environments(tmp_path) as admin:
        await admin.end_of(await admin.post("science", "one"))
        await put(admin, "", kept_builds=9, denied_packages=["left-pad"], max_packages=50, cooldown_days=1)
        await put(admin, "team/", kept_builds=5, denied_packages=["xz"], max_packages=80)
        found = await put(admin, "team/science/", kept_days=2)
        values, layers = found["data"], found["layers"]
        assert (values["kept_builds"], values["kept_days"], values["max_packages"]) == (5, 2, 50)
        assert values["denied_packages"] == ["left-pad", "xz"]
        assert layers["environment"] == {"kept_days": 2}
        assert layers["namespace"]["kept_builds"] == 5
        found = await put(admin, "team/", kept_builds=None)
        assert (found["data"]["kept_builds"], "kept_builds" in found["layers"]["namespace"]) == (9, False)
        # another namespace's is its own
        assert (await admin.get("setting/other/")).data["denied_packages"] == ["left-pad"]
        assert (await admin.get("setting/team/science/")).json()["layers"]["environment"] == {"kept_days": 2}
        await admin.named.delete("team", "science", by="admin")
        await admin.end_of(await admin.post("science", "one"))
        assert (await admin.get("setting/team/science/")).json()["layers"]["environment"] == {}


REFUSED: list[tuple[Any, str]] = [
    ({"kept_bulds": 1}, "'kept_bulds': there is no such setting; did you mean kept_builds?"),
    ({"conda_allowed_channels": []}, "there is no such setting; did you mean allowed_channels?"),
    ({"kept_builds": 0}, "kept_builds: it must be a whole number from 1"),
    ({"kept_builds": "9"}, "or null for none, but it is text"),
    ({"kept_days": True}, "kept_days: it must be a number from 0.01 to"),
    ({"cooldown_days": -1}, "cooldown_days: must be a number from 0"),
    ({"denied_packages": "xz"}, "denied_packages: must be a list"),
    ({"included_packages": ["numpy=>2"]}, "included_packages[0]: 'numpy=>2' is not a match spec"),
    ({"default_channels": ["file:///elsewhere"]}, "default_channels[0]: channel file:///elsewhere is not allowed"),
    ({"default_platforms": ["linux-46"]}, "'linux-46' is no platform; there are"),
    ({"pypi_denied_packages": ["git+https://x/y"]}, "pypi_denied_packages[0]: "),
    (
        {"base_image": "debian"},
        "base_image: 'debian' is no base image that this server allows",
    ),
    ([], "expected an object"),
]


async def test_what_cannot_be_set(tmp_path: Path) -> None:
    async with serving_environments(tmp_path) as admin:
        for document, told in REFUSED:
            answer = await admin.ask("PUT", "setting/team/", document)
            assert (answer.status, told in answer.message) == (400, True), answer.message
        assert (await admin.get("setting/team/")).json()["layers"]["namespace"] == {}
        assert (await admin.ask("PUT", "setting/conda-store-dynamic/", {"kept_builds": 1})).status == 400


async def test_rules_refuse_what_is_asked_for_and_what_is_there_already(tmp_path: Path) -> None:
    packages = (Package("one", "1.0"), Package("one", "2.0"), "two", "tool")
    async with serving_environments(tmp_path, packages=packages) as admin:
        build = (await admin.make("science", "one"))["id"]
        await put(admin, "team/science/", denied_packages=["one >=2 # broken"])
        pulled = await admin.client.get(f"{admin.url}/v2/team/science/manifests/latest", headers=admin.headers)
        assert pulled.status == 404
        reason = "is denied by the settings of team/science (denied_packages): one >=2: broken"
        assert reason in await pulled.text()
        again = await admin.make("science", "one")
        assert (again["status"], again["id"] > build) == ("COMPLETED", True)
        assert [each.version for each in await packages_of(admin, again["id"])] == ["1.0"]
        # the rule is that environment's alone
        other = await admin.make("other", "one")
        assert [each.version for each in await packages_of(admin, other["id"])] == ["2.0"]
        await put(admin, "", denied_packages=["two"])
        refused = await admin.ask("POST", "specification/", written(admin, "x", ["two"]))
        assert (refused.status, "by the settings of all environments" in refused.message) == (400, True)
        await put(admin, "team/", required_packages=["tool"])
        lacking = await admin.make("science", "one")
        assert lacking["status"] == "FAILED"
        assert "lacks tool for linux-64, and the settings of team (required_packages)" in lacking["status_info"]


async def test_packages_are_added_at_each_build(tmp_path: Path) -> None:
    async with serving_environments(
        tmp_path, packages=("one", "two", Package("tool", "1"), Package("tool", "2"))
    ) as admin:
        await put(admin, "team/", included_packages=["tool=1"], default_packages=["two"])
        first = await admin.make("science", "one")
        assert [str(each) for each in await packages_of(admin, first["id"])] == ["one-1.0-0", "tool-1-0"]
        asked = await admin.make("asked", "tool")
        assert [str(each) for each in await packages_of(admin, asked["id"])] == ["tool-2-0"]
        empty = await admin.make("empty")
        assert [str(each) for each in await packages_of(admin, empty["id"])] == ["tool-1-0", "two-1.0-0"]
        await put(admin, "team/", included_packages=["tool=2"])
        again = await admin.named.rebuild(first["id"], by="admin")
        await admin.end_of(again.id)
        assert [str(each) for each in await packages_of(admin, again.id)] == ["one-1.0-0", "tool-2-0"]


async def test_what_a_file_leaves_open_is_what_is_set(tmp_path: Path) -> None:
    other = await make_channel(tmp_path / "other", [Package("three")])
    async with serving_environments(tmp_path, allowed_channels=(other,)) as admin:
        text = json.dumps({"name": "science", "dependencies": ["three"]})
        document = {"specification": text, "namespace": "team"}
        first = await admin.end_of((await admin.ask("POST", "specification/", document)).data["build_id"])
        assert "no package three" in first["status_info"]
        await put(admin, "team/science/", default_channels=[other])
        second = await admin.end_of((await admin.ask("POST", "specification/", document)).data["build_id"])
        assert second["status"] == "COMPLETED"
        # the file says it itself, or another environment is meant
        document["specification"] = text.replace("science", "other")
        third = await admin.end_of((await admin.ask("POST", "specification/", document)).data["build_id"])
        assert third["status"] == "FAILED"


async def test_no_more_builds_than_the_settings_allow(tmp_path: Path) -> None:
    async with serving_environments(tmp_path) as admin:
        await admin.make("science", "one")
        await put(admin, "team/", quota=1)
        refused = await admin.ask("POST", "specification/", written(admin, "science", ["two"]))
        assert (refused.status, "the builds of team have" in refused.message) == (400, True)
        await put(admin, "team/", quota=None, max_unfinished_builds=1)
        sent = [await admin.ask("POST", "specification/", written(admin, name, ["one"])) for name in ("a", "b", "c")]
        assert 429 in {each.status for each in sent}
        assert (await admin.get("environment/?name=c")).json()["count"] == (sent[2].status == 200)


async def packages_of(place: Place, build: int) -> list[Any]:
    found = await place.named.store.builds.find(build)
    assert found.lock_key is not None
    document = await place.named.builder.catalog.locks.find(found.lock_key)
    assert document is not None
    (packages,) = Lock.from_json(document).packages.values()
    return sorted(packages, key=lambda each: each.name)


def written(place: Place, name: str, specs: list[str]) -> dict[str, Any]:
    text = json.dumps({"name": name, "channels": [place.channel], "dependencies": specs})
    return {"specification": text, "namespace": "team"}
