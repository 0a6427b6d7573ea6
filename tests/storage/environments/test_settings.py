"""Settings in three layers."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database.environment_tables import setting
from storage.environments.settings import drop_settings
from storage.errors import EnvironmentUnknown
from tests.support.storage.environments import Named


async def layers(named: Named, namespace: str = "", name: str = "") -> list[tuple[str, str, object]]:
    found = await named.store.settings.list_layers(namespace, name)
    return [(each.namespace, each.environment, dict(each.document)) for each in found]


async def test_layers_are_in_the_order_of_their_reach(named: Named) -> None:
    settings = named.store.settings
    await settings.change({"a": 3}, "team", "science")
    await settings.change({"a": 2}, "team")
    await settings.change({"a": 1})
    await settings.change({"a": 9}, "team", "other")
    await settings.change({"a": 9}, "lab", "science")
    assert await layers(named, "team", "science") == [
        ("", "", {"a": 1}), ("team", "", {"a": 2}), ("team", "science", {"a": 3}),
    ]  # fmt: skip
    assert await layers(named, "team") == [("", "", {"a": 1}), ("team", "", {"a": 2})]
    assert await layers(named) == [("", "", {"a": 1})]
    assert await layers(named, "nothing", "here") == [("", "", {"a": 1})]


async def test_a_change_is_of_the_fields_that_it_names(named: Named) -> None:
    settings = named.store.settings
    assert await settings.change({"a": 1, "b": [2], "c": None}, "team") == {"a": 1, "b": [2]}
    assert await settings.change({"a": None, "d": "é%"}, "team") == {"b": [2], "d": "é%"}
    assert await layers(named, "team") == [("team", "", {"b": [2], "d": "é%"})]


async def test_of_changes_at_once_none_is_lost(named: Named) -> None:
    await asyncio.gather(*(named.store.settings.change({f"field{number}": number}, "team") for number in range(8)))
    [(_, _, document)] = await layers(named, "team")
    assert document == {f"field{number}": number for number in range(8)}


async def test_what_is_recorded_is_recorded_with_the_change(named: Named) -> None:
    async def refuse(_connection: AsyncConnection, _nothing: None) -> None:
        raise EnvironmentUnknown("team", "science")

    with pytest.raises(EnvironmentUnknown):
        await named.store.settings.change({"a": 1}, "team", record=refuse)
    assert await layers(named, "team") == []


async def test_settings_go_with_what_they_are_about(named: Named) -> None:
    await named.make("one")
    for place in (("team", "science"), ("team", "other"), ("team", ""), ("lab", "science")):
        await named.store.settings.change({"a": 1}, *place)
    await named.store.environments.delete("team", "science")
    assert [(each[0], each[1]) for each in await layers(named, "team", "science")] == [("team", "")]
    async with named.content.stores.database.writing() as connection:
        await drop_settings(connection, "team")
    [row] = await named.content.stores.rows(setting.select())
    assert (row.namespace, row.environment) == ("lab", "science")
