"""GET alarm/, and the webhooks: current builds that hold what is denied now."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from builder.environments.jobs import EnvironmentJobs
from storage.database.leases import Leases
from tests.support.registry.environments import serving_environments
from tests.support.servers.receiver import receiving

PEOPLE = {"admin": ("*/*=admin",), "bob": ("team/*=viewer",), "eve": ("other/*=editor",)}


async def test_who_may_read_an_environment_sees_its_alarms_and_webhooks_get_them_once(tmp_path: Path) -> None:
    async with (
        receiving() as receiver,
        serving_environments(tmp_path, PEOPLE, ("one",), webhooks=(f"{receiver.url} actions=alarm",)) as admin,
    ):
        build = await admin.make("science", "one")
        assert (await admin.ask("GET", "alarm/")).data == []
        assert (await admin.ask("PUT", "setting/team/", {"denied_packages": ["one"]})).status == 200
        named, store = admin.named, admin.parts.stored_environments
        assert admin.parts.notifier is not None
        tell = admin.parts.notifier.alarm_recorder
        each, other = (EnvironmentJobs(named, store.upkeep, Leases(store.upkeep.database), tell=tell) for _ in range(2))
        assert sum(await asyncio.gather(each.find_alarms(), other.find_alarms())) == 1
        for person, seen in (("admin", 1), ("bob", 1), ("eve", 0)):
            answer = await admin.by(person).ask("GET", "alarm/")
            assert len(answer.data) == seen
        [alarm] = (await admin.ask("GET", "alarm/?page=1&size=10&sort_by=since")).data
        assert (alarm["namespace"], alarm["environment"], alarm["build_id"]) == ("team", "science", build["id"])
        assert "one" in alarm["reason"]
        assert await other.find_alarms() == 0
        # what is denied anew is another event, so that there was none between the two is seen
        for denied in ([], ["one"]):
            await admin.ask("PUT", "setting/team/", {"denied_packages": denied})
            assert await each.find_alarms() == 1
        events = await receiver.wait(2)
        assert [event["action"] for event in events] == ["alarm", "alarm"]
        assert events[0]["target"] == {"repository": "team/science", "tag": str(build["id"])}
        assert events[0]["alarm"] == {
            "environment": "team/science", "build": build["id"], "reason": alarm["reason"],
        }  # fmt: skip


async def test_whoever_may_see_an_environment_sees_that_its_schedule_fails(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, PEOPLE, ("one",)) as admin:
        await admin.make("science", "one")
        found = (await admin.get("environment/team/science/")).data
        assert (found["solved_on"], found["solve_error"]) == (None, None)
        upkeep = admin.parts.stored_environments.upkeep
        assert await upkeep.take_due(found["id"], time.time() + 1)
        await upkeep.note_resolve_error(found["id"], "nothing provides one")
        [listed] = (await admin.by("bob").get("environment/")).data
        assert listed["solved_on"] is not None
        assert listed["solve_error"] == "nothing provides one"


async def test_what_is_written_down_with_a_token_goes_into_its_primary_namespace(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, {"ann": ("team/*=admin", "lab/*=admin")}, ("one",)) as ann:
        made = await ann.ask("POST", "token/", {"primary_namespace": "lab"})
        with_token = ann.with_token(made.data["token"])
        build = await with_token.make("science", "one", namespace=None)
        assert build["status"] == "COMPLETED"
        assert [each["namespace"]["name"] for each in (await ann.get("environment/")).data] == ["lab"]
