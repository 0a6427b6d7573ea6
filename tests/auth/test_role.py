"""The built-in roles are those of the specification; custom ones hold what they say."""

from __future__ import annotations

import pytest

from auth.permission import Permission
from auth.role import ADMIN, EDITOR, VIEWER, Role, Roles, parse_role

VIEWER_MAY = {"environment::read", "namespace::read", "namespace-role-mapping::read"}
EDITOR_MAY = VIEWER_MAY | {
    "environment::create", "environment::update", "environment::solve", "build::cancel", "setting::read",
}  # fmt: skip


def test_built_in_roles() -> None:
    assert {str(each) for each in VIEWER.permissions} == VIEWER_MAY
    assert {str(each) for each in EDITOR.permissions} == EDITOR_MAY
    assert ADMIN.permissions == set(Permission)
    assert Roles().find("developer") is EDITOR


def test_custom_role() -> None:
    role = parse_role("publisher=environment::read + environment::create")
    assert role == Role("publisher", frozenset({Permission.ENVIRONMENT_READ, Permission.ENVIRONMENT_CREATE}))
    assert Roles([role]).find("publisher") is role


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("publisher", "is not a role such as"),
        ("Big Name=environment::read", "is not a role such as"),
        ("admin=environment::read", "admin is a built-in role"),
        ("publisher=environment:read", "'environment:read' is not a permission; did you mean environment::read"),
        ("publisher=pul", "role publisher: 'pul' is not a permission; did you mean pull"),
        ("publisher=audit", "did you mean audit::read"),
        ("publisher=§", r"a registry asks for environment::read \(pull\), environment::create \(push\)"),
        ("publisher=", "role publisher has no permissions"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_role(text)


def test_what_clients_of_registries_call_them() -> None:
    role = parse_role("publisher=pull+push+delete+pull")
    assert role.permissions == {
        Permission.ENVIRONMENT_READ,
        Permission.ENVIRONMENT_CREATE,
        Permission.ENVIRONMENT_DELETE,
    }


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("environment::push", r"environment::create \(push\)"),
        ("environments::pull", r"environment::read \(pull\)"),
        ("evnironment::read", "environment::read"),
    ],
)
def test_what_was_meant_by_a_permission_that_there_is_not(text: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"'{text}' is not a permission; did you mean {meant}\\?$"):
        parse_role(f"publisher={text}")
