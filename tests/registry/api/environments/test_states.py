"""What can be done with a build in each state, and what cannot; and several writers at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from storage.environments.vocabulary import NewSpecification
from tests.support.registry.environments import Answer, Place, serving_environments

HELD = tuple(f"held{number}" for number in range(4))
"""Packages whose downloads wait: each of one environment, since what has been downloaded is there."""
PACKAGES = ("one", "two", *HELD)


async def queued(place: Place, name: str) -> int:
    """One that nobody has begun yet."""
    store = place.parts.stored_environments.environments
    wanted = NewSpecification(name, {"name": name}, {"spec": {}, "lock_key": None, "pip": [], "extends": None})
    return (await store.ask_for_build("team", name, f"team/{name}", wanted, by="ann")).id


async def building(place: Place, name: str) -> int:
    assert place.server is not None
    package = HELD[int(name[-1])]
    held = place.server.hold(f"{package}-1.0-0.conda")
    build = await place.post(name, package)
    await asyncio.to_thread(held.reached.wait, 30)
    assert (await place.get(f"build/{build}/")).data["status"] == "BUILDING"
    return build


async def current(place: Place, name: str) -> int:
    return int((await place.make(name, "one"))["id"])


async def earlier(place: Place, name: str) -> int:
    build = await current(place, name)
    await place.make(name, "two")
    return build


async def failed(place: Place, name: str) -> int:
    build = await place.make(name, "three")
    assert build["status"] == "FAILED"
    return int(build["id"])


async def canceled(place: Place, name: str) -> int:
    build = await building(place, name)
    assert (await cancel(place, name, build)).status == 200
    done = await place.end_of(build)
    assert (done["status"], done["status_info"]) == ("CANCELED", "canceled by admin")
    return build


async def cancel(place: Place, _: str, build: int) -> Answer:
    return await place.ask("PUT", f"build/{build}/cancel/")


async def delete(place: Place, _: str, build: int) -> Answer:
    return await place.ask("DELETE", f"build/{build}/")


async def choose(place: Place, name: str, build: int) -> Answer:
    return await place.ask("PUT", f"environment/team/{name}/", {"build_id": build})


OVER = "already, so there is nothing to cancel"
NOT_ENDED = "cancel it first"
ONLY_COMPLETE = "only a build that is COMPLETED can become the current one"
Make = Callable[[Place, str], Awaitable[int]]
REFUSALS: dict[Make, tuple[str, str, str]] = {
    queued: ("", NOT_ENDED, ONLY_COMPLETE),
    building: ("", NOT_ENDED, ONLY_COMPLETE),
    current: (OVER, "it is the current build of team/app1; make another one the current build", ""),
    earlier: (OVER, "", ""),
    failed: (OVER, "", ONLY_COMPLETE),
    canceled: (OVER, "", ONLY_COMPLETE),
}
"""Why a build in this state cannot be canceled, deleted and chosen; empty if it can."""


@pytest.mark.parametrize("make", REFUSALS)
async def test_what_can_be_done_in_each_state(tmp_path: Path, make: Make) -> None:
    async with serving_environments(tmp_path, packages=PACKAGES, served=True) as place:
        for number, (do, reason) in enumerate(zip((cancel, delete, choose), REFUSALS[make], strict=True)):
            name = f"app{number}"
            build = await make(place, name)
            before = (await place.get(f"build/{build}/")).data
            answer = await do(place, name, build)
            if reason:
                assert answer.status == 409, (do, answer.body)
                assert reason in answer.message
                assert (await place.get(f"build/{build}/")).data == before
            else:
                assert answer.status == 200, (do, answer.body)
                if do is delete:
                    assert (await place.ask("GET", f"build/{build}/")).status == 404
                elif do is choose:
                    assert (await place.get(f"environment/team/{name}/")).data["current_build_id"] == build
                else:
                    assert (await place.end_of(build))["status"] == "CANCELED"
            release(place)
        if make not in (queued, earlier):
            await is_made_again(place, make)


async def is_made_again(place: Place, make: Make) -> None:
    build = await make(place, "app3")
    answer = await place.ask("PUT", f"build/{build}/")
    assert (answer.status, answer.message) == (200, "rebuild triggered")
    again = answer.data["build_id"]
    release(place)
    done = await place.end_of(again)
    assert (done["cause"], done["status"]) == ("REBUILD", "FAILED" if make is failed else "COMPLETED")
    assert done["specification"]["id"] == (await place.get(f"build/{build}/")).data["specification"]["id"]


def release(place: Place) -> None:
    assert place.server is not None
    for held in place.server.holds:
        held.released.set()


async def test_an_environment_goes_with_its_running_builds(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, packages=PACKAGES, served=True) as place:
        await current(place, "app0")
        build = await building(place, "app0")
        assert (await place.ask("DELETE", "environment/team/app0/")).status == 200
        assert (await place.ask("GET", f"build/{build}/")).status == 404
        assert (await place.ask("GET", "environment/team/app0/")).status == 404
        assert (await place.get("build/")).json()["count"] == 0
        # the name is free again
        assert (await place.make("app0", "one"))["status"] == "COMPLETED"


async def test_of_two_writers_neither_is_lost(tmp_path: Path) -> None:
    async with serving_environments(tmp_path) as place:
        first, second = (await place.make("app", "one"))["id"], (await place.make("app", "two"))["id"]
        changes = [
            place.ask("PUT", "environment/team/app/", {"build_id": build, "description": str(build)})
            for build in (first, second) * 5
        ]
        assert {answer.status for answer in await asyncio.gather(*changes)} == {200}
        found = (await place.get("environment/team/app/")).data
        assert found["description"] == str(found["current_build_id"]), "never half of each"
        builds = await asyncio.gather(*(place.post("app", spec) for spec in ("one", "two") * 5))
        assert len(set(builds)) == 10
        ends = [await place.end_of(build) for build in builds]
        assert {each["status"] for each in ends} == {"COMPLETED"}
        assert (await place.get("environment/team/app/")).data["current_build_id"] == max(builds)


async def test_another_environments_build_cannot_be_chosen(tmp_path: Path) -> None:
    async with serving_environments(tmp_path) as place:
        await place.make("app", "one")
        other = (await place.make("other", "one"))["id"]
        answer = await choose(place, "app", other)
        assert (answer.status, answer.message) == (404, f"there is no build {other} here, or no more")


async def test_nothing_is_changed_where_the_server_is_read_only(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, read_only=True) as place:
        text = {"specification": "name: x\ndependencies: [one]\n", "namespace": "team"}
        answer = await place.ask("POST", "specification/", text)
        assert answer.status == 403
        assert "read-only" in answer.message
