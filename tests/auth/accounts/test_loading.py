"""What accounts may do: by defaults, rows, groups, namespaces and owners, and at once after every change."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import delete, update

from auth.access import may
from auth.accounts.defaults import Defaults
from auth.accounts.loading import LoadedAccount, PrincipalLoader
from auth.permission import Permission
from auth.role import Roles, parse_role
from auth.settings import AccessSettings
from storage.database.account_tables import account, account_group, binding, membership
from tests.support.auth.rows import Rows

READ, CREATE, DELETE = Permission.ENVIRONMENT_READ, Permission.ENVIRONMENT_CREATE, Permission.ENVIRONMENT_DELETE
PUBLISHER = parse_role("publisher=environment::create")


async def loaded(loader: PrincipalLoader, account_id: str) -> LoadedAccount:
    found = await loader.load(account_id)
    assert found is not None
    return found


async def granted(loader: PrincipalLoader, account_id: str, permission: Permission, entity: str) -> bool:
    return may((await loaded(loader, account_id)).principal, permission, entity)


async def test_nobody_is_loaded_by_an_id_that_no_account_has(loader: PrincipalLoader) -> None:
    assert await loader.load("nobody") is None
    assert not await loader.has_accounts()


async def test_a_person_has_the_defaults_and_their_own_namespace(rows: Rows, loader: PrincipalLoader) -> None:
    alice = await rows.add_account("alice")
    assert await granted(loader, alice, DELETE, "alice/anything")
    assert await granted(loader, alice, Permission.NAMESPACE_UPDATE, "alice")
    assert await granted(loader, alice, READ, "default/x")
    assert await granted(loader, alice, CREATE, "on-demand/*")
    assert not await granted(loader, alice, CREATE, "default/x")
    assert not await granted(loader, alice, READ, "bob/x")
    assert not await granted(loader, alice, READ, "alice2/x")


async def test_rows_of_the_account_and_of_its_groups_unite(rows: Rows, loader: PrincipalLoader) -> None:
    alice, bob = await rows.add_account("alice"), await rows.add_account("bob")
    await rows.insert(account_group, name="science", created=1.0)
    await rows.insert(membership, account=alice, group_name="science", source="local")
    await rows.bind("account", alice, "team/x", "admin")
    await rows.bind("group", "science", "team/*", "viewer")
    # a group of the same name as an account's id is no account
    await rows.bind("group", bob, "bobs/*", "viewer")
    assert await granted(loader, alice, DELETE, "team/x")
    assert await granted(loader, alice, READ, "team/y")
    assert not await granted(loader, alice, DELETE, "team/y")
    assert not await granted(loader, bob, READ, "team/y")
    assert not await granted(loader, bob, READ, "bobs/y")


class TestWhatANamespaceWasGranted:
    async def test_is_for_whoever_may_update_all_of_it(self, rows: Rows, loader: PrincipalLoader) -> None:
        editor, reader, partly = [await rows.add_account(name) for name in ("editor", "reader", "partly")]
        await rows.bind("namespace", "team", "shared/*", "viewer")
        await rows.bind("account", editor, "team/*", "editor")
        await rows.bind("account", reader, "team/*", "viewer")
        await rows.bind("account", partly, "team/x", "admin")
        assert await granted(loader, editor, READ, "shared/x")
        assert not await granted(loader, editor, CREATE, "shared/x")
        assert not await granted(loader, reader, READ, "shared/x")
        assert not await granted(loader, partly, READ, "shared/x")

    async def test_is_for_the_person_of_its_name(self, rows: Rows, loader: PrincipalLoader) -> None:
        alice = await rows.add_account("alice")
        await rows.bind("namespace", "alice", "shared/*", "viewer")
        assert await granted(loader, alice, READ, "shared/x")

    async def test_is_found_by_a_wildcard_in_the_namespace(self, rows: Rows, loader: PrincipalLoader) -> None:
        alice = await rows.add_account("alice")
        await rows.bind("account", alice, "te*/*", "editor")
        for name in ("team", "tent", "other"):
            await rows.bind("namespace", name, f"of-{name}/*", "viewer")
        assert await granted(loader, alice, READ, "of-team/x")
        assert await granted(loader, alice, READ, "of-tent/x")
        assert not await granted(loader, alice, READ, "of-other/x")

    async def test_opens_no_further_namespace(self, rows: Rows, loader: PrincipalLoader) -> None:
        alice = await rows.add_account("alice")
        await rows.bind("account", alice, "a/*", "admin")
        await rows.bind("namespace", "a", "b/*", "admin")
        await rows.bind("namespace", "b", "c/*", "admin")
        await rows.bind("namespace", "b", "a/*", "admin")
        assert await granted(loader, alice, DELETE, "b/x")
        assert not await granted(loader, alice, READ, "c/x")


class TestRobots:
    async def test_have_only_their_own_rows(self, rows: Rows, loader: PrincipalLoader) -> None:
        robot = await rows.add_account("ci", kind="robot")
        await rows.insert(account_group, name="science", created=1.0)
        await rows.insert(membership, account=robot, group_name="science", source="local")
        await rows.bind("group", "science", "grouped/*", "viewer")
        await rows.bind("account", robot, "team/*", "editor")
        await rows.bind("namespace", "team", "shared/*", "viewer")
        assert await granted(loader, robot, CREATE, "team/x")
        for entity in ("ci/x", "default/x", "on-demand/*", "grouped/x", "shared/x"):
            assert not await granted(loader, robot, READ, entity)

    async def test_harbor_robot_has_no_more_than_its_owner(self, rows: Rows, loader: PrincipalLoader) -> None:
        alice = await rows.add_account("alice")
        robot = await rows.add_account("ci", kind="robot", owner=alice)
        await rows.bind("account", robot, "*/*", "admin")
        assert await granted(loader, robot, DELETE, "alice/x")
        assert not await granted(loader, robot, READ, "team/x")
        await rows.bind("account", alice, "team/*", "viewer")
        assert await granted(loader, robot, READ, "team/x")
        assert not await granted(loader, robot, CREATE, "team/x")

    async def test_end_with_their_owner(self, rows: Rows, loader: PrincipalLoader) -> None:
        alice = await rows.add_account("alice", expires=50.0)
        robot = await rows.add_account("ci", kind="robot", owner=alice, expires=60.0)
        assert not (await loaded(loader, robot)).is_refused(49.0)
        assert (await loaded(loader, robot)).is_refused(50.0)
        await rows.change(update(account).where(account.c.id == alice).values(expires=None, disabled=True))
        assert (await loaded(loader, robot)).is_refused(0.0)
        await rows.change(delete(account).where(account.c.id == alice))
        assert await loader.load(robot) is None


async def test_every_change_is_seen_at_once(rows: Rows, loader: PrincipalLoader) -> None:
    assert not await loader.has_accounts()
    alice = await rows.add_account("alice")
    assert await loader.has_accounts()
    assert not await granted(loader, alice, READ, "team/x")
    await rows.bind("account", alice, "team/*", "viewer")
    assert await granted(loader, alice, READ, "team/x")
    await rows.change(delete(binding))
    assert not await granted(loader, alice, READ, "team/x")


async def test_what_has_not_changed_is_not_read_again(rows: Rows, loader: PrincipalLoader) -> None:
    alice = await rows.add_account("alice")
    assert await loader.load(alice) is await loader.load(alice)
    assert await loader.anonymous() is await loader.anonymous()


async def test_a_role_that_the_settings_have_no_more_grants_nothing(rows: Rows) -> None:
    alice = await rows.add_account("alice")
    await rows.bind("account", alice, "team/*", "publisher")
    for custom, expected in (((PUBLISHER,), True), ((), False)):
        loader = rows.loader(roles=Roles(custom))
        assert await granted(loader, alice, CREATE, "team/x") is expected


class TestAnybody:
    async def test_on_this_machine_may_do_all_until_there_are_accounts(self, rows: Rows) -> None:
        loader = rows.loader(for_this_machine=True)
        assert may(await loader.anonymous(), DELETE, "team/x")
        alice = await rows.add_account("alice")
        anybody = await loader.anonymous()
        assert may(anybody, READ, "team/x")
        assert may(anybody, CREATE, "on-demand/*")
        assert not may(anybody, CREATE, "team/x")
        assert not may(anybody, DELETE, "on-demand/*")
        # whoever signs in does not lose by it
        assert await granted(loader, alice, READ, "team/x")

    async def test_elsewhere_may_do_nothing(self, rows: Rows) -> None:
        loader = rows.loader(for_this_machine=False)
        for _ in range(2):
            anybody = await loader.anonymous()
            assert not any(may(anybody, each, entity) for each in Permission for entity in ("a/x", "on-demand/*", "a"))
            await rows.add_account(f"a{time.time_ns()}")

    @pytest.mark.parametrize("for_this_machine", [True, False])
    async def test_may_do_what_the_settings_say(self, rows: Rows, for_this_machine: bool) -> None:
        settings = AccessSettings(anonymous_bindings=("public/*=viewer", "{root}/*=viewer"))
        loader = rows.loader(settings, for_this_machine=for_this_machine)
        anybody = await loader.anonymous()
        assert may(anybody, READ, "public/x")
        assert may(anybody, READ, "on-demand/*")
        assert not may(anybody, READ, "team/x")
        nothing = rows.loader(AccessSettings(anonymous_bindings=("none",)), for_this_machine=for_this_machine)
        assert not may(await nothing.anonymous(), READ, "public/x")


def test_auto_is_for_anybody_alone() -> None:
    assert Defaults(AccessSettings(), "r", for_this_machine=False).of_anybody(has_accounts=False) == ()
    with pytest.raises(ValueError, match="'auto' is not a binding"):
        AccessSettings(signed_in_bindings=("auto",))
