"""GET alarm/: current builds that hold what is denied now."""

from __future__ import annotations

from pathlib import Path

from builder.environments.jobs import EnvironmentJobs
from storage.database.leases import Leases
from tests.support.registry.environments import serving_environments

PEOPLE = {"admin": ("*/*=admin",), "bob": ("team/*=viewer",), "eve": ("other/*=editor",)}


async def test_who_may_read_an_environment_sees_its_alarms(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, PEOPLE, ("one",)) as admin:
        build = await admin.make("science", "one")
        assert (await admin.ask("GET", "alarm/")).data == []
        assert (await admin.ask("PUT", "setting/team/", {"denied_packages": ["one"]})).status == 200
        named, store = admin.named, admin.parts.stored_environments
        jobs = EnvironmentJobs(named, store.upkeep, Leases(store.upkeep.database))
        assert await jobs.find_alarms() == 1
        for person, seen in (("admin", 1), ("bob", 1), ("eve", 0)):
            answer = await admin.by(person).ask("GET", "alarm/")
            assert len(answer.data) == seen
        [alarm] = (await admin.ask("GET", "alarm/?page=1&size=10&sort_by=since")).data
        assert (alarm["namespace"], alarm["environment"], alarm["build_id"]) == ("team", "science", build["id"])
        assert "one" in alarm["reason"]
