"""What conda-store lets anybody do, or lets nobody do by a slip, sent to a server of ours.

That its `next` leads anywhere is in browser/test_login_page.py, that it trusts every origin in
../peers/test_trusted_pages.py, and that its first check of a request answers for all others in test_ownership.py.
"""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from auth.permission import PUBLIC, Permission, parse_permission
from auth.settings import AccessSettings
from registry.routes import ROUTES
from tests.support.registry.people import People, bearer
from tests.support.registry.serving import Site

OPEN = {"/api/openapi.json", "/api/docs", "/api/v1/", "/api/v1/permission/"}
"""What of the REST API is for everybody: what it is, and what they may do."""


@pytest.mark.parametrize("name", ["token", "access_token", "auth", "authorization", "key"])
async def test_a_token_in_a_query_is_none(site: Site, people: People, name: str) -> None:
    """Addresses get into logs, histories and the headers of other requests."""
    alice = await people.add("alice", "team/*=editor")
    async with site.request("GET", "/api/v1/permission/", headers=alice.headers) as answer:
        assert json.loads(await answer.read())["data"]["authenticated"] is True
    for value in (alice.token, f"Bearer%20{alice.token}"):
        async with site.request("GET", f"/api/v1/permission/?{name}={value}") as answer:
            assert json.loads(await answer.read())["data"]["authenticated"] is False
        async with site.request("GET", f"/v2/team/app/tags/list?{name}={value}") as answer:
            assert answer.status == 401


def test_nothing_but_what_says_who_one_is_is_open_to_everybody() -> None:
    """conda-store lists packages and channels, and solves, for whoever asks."""
    assert {row.path for row in ROUTES if row.path.startswith("/api/") and row.permission is PUBLIC} <= OPEN


def test_every_permission_has_two_colons() -> None:
    """conda-store asks for `environment:create` in one place, which nobody ever has."""
    for permission in Permission:
        assert permission.value.count(":") == 2, permission
        assert "::" in permission.value
    for slip in ("environment:create", "environment.create", "environment::creat", "Environment::Create"):
        with pytest.raises(ValueError, match="did you mean environment::create"):
            parse_permission(slip)


def test_no_role_has_a_permission_with_one_colon() -> None:
    with pytest.raises(ValidationError, match="did you mean environment::create"):
        AccessSettings.model_validate({"roles": ["builder=environment:create"]})


async def test_who_may_create_is_told_so_in_the_words_that_routes_ask_in(site: Site, people: People) -> None:
    alice = await people.add("alice", "team/*=editor")
    async with site.request("GET", "/api/v1/permission/", headers=bearer(alice.token)) as answer:
        granted = json.loads(await answer.read())["data"]["entity_permissions"]["team/*"]
    assert "environment::create" in granted
    assert set(granted) <= {permission.value for permission in Permission}
