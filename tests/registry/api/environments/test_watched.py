"""Watched files over the whole application: they are built, and GET watch/ says what became of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from auth.errors import NameUnfit
from tests.support.registry.environments import Place, serving_environments

PEOPLE = {
    "ann": ("team/*=admin", "*/*=admin"),
    "bob": ("team/app=viewer",),
    "eve": ("other/*=admin",),
}


async def wait_for(place: Place, count: int, error: str | None = None) -> list[dict[str, Any]]:
    async with asyncio.timeout(60):
        while True:
            rows: list[dict[str, Any]] = (await place.get("watch/")).data
            if len([row for row in rows if row["build_id"] or row["error"]]) == count and (
                error is None or any(error in (row["error"] or "") for row in rows)
            ):
                return rows
            await asyncio.sleep(0.05)


async def test_files_of_the_settings_are_built_and_shown_to_who_may_read_them(tmp_path: Path) -> None:
    directory = tmp_path / "files"
    directory.mkdir()
    (directory / "app.yaml").write_text("dependencies: [one]\n")
    (directory / "wrong.yaml").write_text("dependencies: [one, a b c d]\n")
    async with serving_environments(tmp_path, PEOPLE, watch=(f"team={directory}",)) as ann:
        app, wrong = await wait_for(ann, 2)
        assert (app["path"], app["namespace"], app["environment"]) == ("files/app.yaml", "team", "app")
        assert (app["error"], app["gone_on"]) == (None, None)
        assert (wrong["path"], wrong["environment"], wrong["build_id"]) == ("files/wrong.yaml", None, None)
        assert "dependencies[1]: 'a b c d' is not a match spec" in wrong["error"]
        build = await ann.end_of(app["build_id"])
        assert (build["status"], build["cause"], build["created_by"]) == ("COMPLETED", "WATCH", "condery")
        assert (await ann.by("bob").get("watch/")).data == [app]
        assert (await ann.by("eve").get("watch/")).data == []
        page = (await ann.get("watch/?page=2&size=1&sort_by=path&order=asc")).json()
        assert (page["count"], [each["path"] for each in page["data"]]) == (2, ["files/wrong.yaml"])
        assert (await ann.ask("GET", "watch/?sort_by=error")).status == 400
        events = [each for each in (await ann.get("audit/team/")).data if each["action"].startswith("environment.")]
        assert [(each["action"], each["entity"], each["principal"]) for each in events] == [
            ("environment.create", "team/app", "condery")
        ]
        (directory / "app.yaml").unlink()
        async with asyncio.timeout(60):
            while (await ann.get("watch/")).data[0]["gone_on"] is None:
                await asyncio.sleep(0.05)
        assert (await ann.ask("GET", "environment/team/app/")).status == 200


async def test_a_namespace_of_the_server_is_not_watched_into(tmp_path: Path) -> None:
    with pytest.raises(NameUnfit):
        async with serving_environments(tmp_path, watch=(f"mirror={tmp_path}",)):
            raise AssertionError
