"""Which repositories are environments', as each process knows them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from sqlalchemy import insert

from storage.background import in_background
from storage.database.engine import Database
from storage.database.environment_tables import environment
from storage.environments.names import EnvironmentNames
from tests.support.storage.environments import REPOSITORY, Named


@contextlib.asynccontextmanager
async def elsewhere(named: Named) -> AsyncIterator[EnvironmentNames]:
    """The names as another process has them."""
    url = named.content.stores.database.engine.url.render_as_string(hide_password=False)
    database = Database.open(url)
    try:
        yield EnvironmentNames(database)
    finally:
        await database.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.01)


async def test_they_are_loaded(named: Named) -> None:
    await named.ask()
    async with elsewhere(named) as names:
        told: list[bool] = []
        names.listen(lambda: told.append(REPOSITORY in names))
        assert REPOSITORY not in names
        await names.load()
        assert (REPOSITORY in names, "team/other" in names) == (True, False)
        await names.load()
        assert told == [True]


async def test_another_process_hears_what_is_made_and_deleted(named: Named) -> None:
    async with elsewhere(named) as names, in_background(names.follow()):
        await named.ask()
        await until(lambda: REPOSITORY in names)
        await named.store.environments.delete("team", "science")
        await until(lambda: REPOSITORY not in names)
        build = await named.ask()
        await until(lambda: REPOSITORY in names)
        await named.store.environments.take_back(build.id)
        await until(lambda: REPOSITORY not in names)
        build = await named.fail(await named.ask())
        await until(lambda: REPOSITORY in names)
        await named.store.environments.delete_build(build.id)
        await until(lambda: REPOSITORY not in names)


async def test_listeners_hear_each_change(named: Named) -> None:
    names, told = named.store.environments.names, list[str]()
    names.listen(lambda: told.append("changed"))
    await named.ask()
    assert told == ["changed"]
    await named.store.environments.delete("team", "science")
    assert told == ["changed"] * 2


async def test_a_deletion_is_seen_whose_transaction_began_before_another_ended(named: Named) -> None:
    for name in ("one", "two"):
        await named.ask(name=name)
    async with elsewhere(named) as names:
        await named.content.change(environment, environment.c.name == "two", deleted=200.0)
        await names.load()
        assert ("team/one" in names, "team/two" in names) == (True, False)
        await named.content.change(environment, environment.c.name == "one", deleted=100.0)
        await names.load()
        assert "team/one" not in names


async def test_a_new_one_is_seen_whose_id_was_taken_before_that_of_another(named: Named) -> None:
    async with elsewhere(named) as names:
        for number in (7, 3):
            async with named.content.stores.database.writing() as connection:
                values = {"id": number, "namespace": "team", "name": f"e{number}", "repository": f"team/e{number}"}
                await connection.execute(insert(environment).values(**values, created=1.0, created_by="ann"))
            await names.load()
            assert f"team/e{number}" in names


async def test_what_this_process_does_while_it_reads_is_not_lost(named: Named) -> None:
    names = named.store.environments.names
    await named.ask(name="other")
    await asyncio.gather(*(names.load() for _ in range(3)), named.ask(), *(names.load() for _ in range(3)))
    assert REPOSITORY in names


async def test_one_that_was_made_here_is_gone_when_another_process_deletes_it(named: Named) -> None:
    names = named.store.environments.names
    await names.load()
    await named.ask()
    await named.content.change(environment, deleted=1.0)
    await names.load()
    assert REPOSITORY not in names
