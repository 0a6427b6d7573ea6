"""The words of a refusal: who may not do what, by which permission, and what to do about it."""

from __future__ import annotations

import pytest

from auth.binding import Binding
from auth.grants import Grants
from auth.permission import Permission
from auth.principal import ANONYMOUS, Principal, PrincipalKind
from auth.refusal import BUILD, refuse, refuse_environment
from auth.role import BUILT_IN, EDITOR, VIEWER

CAROL = Principal("carol", "person")
TEAM = Grants([Binding("team/*", EDITOR)])
LIMIT = (Grants([Binding("team/*", VIEWER)]),)


def limited(kind: PrincipalKind) -> Principal:
    return Principal("carol", kind, grants=TEAM, limits=LIMIT)


@pytest.mark.parametrize(
    ("principal", "permission", "doing", "text"),
    [
        (
            CAROL,
            Permission.ENVIRONMENT_CREATE,
            None,
            "carol may not push to team/app (environment::create); ask an administrator for the role editor there",
        ),
        (
            CAROL,
            Permission.ENVIRONMENT_READ,
            None,
            "carol may not pull from team/app (environment::read), and you are signed in as carol; "
            "ask an administrator for the role viewer there",
        ),
        (
            CAROL,
            Permission.ENVIRONMENT_DELETE,
            None,
            "carol may not delete from team/app (environment::delete); ask an administrator for the role admin there",
        ),
        (
            CAROL,
            Permission.ENVIRONMENT_CREATE,
            BUILD,
            "carol may not have images or files built in team/app (environment::create); "
            "ask an administrator for the role editor there",
        ),
        (
            limited("person"),
            Permission.ENVIRONMENT_CREATE,
            None,
            "carol may not push to team/app with this token (environment::create): the token's limits leave it out; "
            "use the password, or a token whose limits have it",
        ),
        (
            limited("robot"),
            Permission.ENVIRONMENT_CREATE,
            None,
            "carol may not push to team/app with this token (environment::create): its owner may not do it either, "
            "or the token's limits leave it out",
        ),
        # without the limits it would not be granted either
        (
            limited("person"),
            Permission.ENVIRONMENT_DELETE,
            None,
            "carol may not delete from team/app (environment::delete); ask an administrator for the role admin there",
        ),
        (
            ANONYMOUS,
            Permission.ENVIRONMENT_READ,
            None,
            "whoever is not signed in may not pull from team/app (environment::read)",
        ),
    ],
)
def test_the_words_say_who_may_not_do_what(
    principal: Principal, permission: Permission, doing: str | None, text: str
) -> None:
    assert refuse(principal, permission, "team/app", doing) == text


def test_the_rest_api_speaks_of_environments() -> None:
    """And not of pushes and tags."""
    told = refuse_environment(CAROL, Permission.ENVIRONMENT_UPDATE, "team/app")
    assert told.startswith("carol may not change the environment team/app (environment::update); ask an administrator")
    told = refuse_environment(CAROL, Permission.ENVIRONMENT_CREATE, "team/*")
    assert told.startswith("carol may not create environments in team/* (environment::create); ask an administrator")
    for permission in set(Permission):
        told = refuse_environment(CAROL, permission, "team/app")
        assert f"({permission})" in told
        assert not {"push", "pull", "tags"} & set(told.split())


@pytest.mark.parametrize("permission", Permission)
def test_every_permission_has_words_of_its_own_and_a_role_that_has_it(permission: Permission) -> None:
    told = refuse(CAROL, permission, "team/app")
    what = told.removeprefix("carol may not ").partition(f" team/app ({permission})")[0]
    others = {refuse(CAROL, each, "team/app") for each in Permission if each != permission}
    assert what
    assert not any(f" {what} team" in other for other in others)
    role = told.partition("for the role ")[2].removesuffix(" there")
    assert permission in BUILT_IN[role].permissions
