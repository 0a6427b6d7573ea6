"""The description of the REST API: every route is in it, and the running server does what it says."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from auth.permission import Permission
from registry.api.description.document import BEGINNING, UndescribedRoute, write_description
from registry.api.schemas import NewToken, Tokens
from registry.contract import EVENTS, data, listing, message, raw
from registry.dispatch import AccountRoute, EntityRoute, RepositoryRoute, Route
from registry.routes import ROUTES
from tests.support.registry.asking import ask
from tests.support.registry.people import PASSWORD
from tests.support.server import Server
from tests.support.wide import WIDE

ROWS = {
    (method, row.path): row
    for row in ROUTES
    if row.path.startswith(BEGINNING)
    for method in row.methods
    if method != "HEAD"
}


def operations(description: Any) -> dict[tuple[str, str], Any]:
    return {
        (method.upper(), path): operation
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    }


def test_every_route_of_the_api_is_described_with_its_permission() -> None:
    described = operations(write_description(ROUTES))
    assert described.keys() == ROWS.keys()
    for key, operation in described.items():
        row = ROWS[key]
        assert row.permission is not None
        assert operation["x-permission"] == row.permission.value
        assert operation.get("x-entity", "") == getattr(row, "entity", "")
        needed = [row.permission.value] if isinstance(row.permission, Permission) else []
        assert {scheme: roles for each in operation["security"] for scheme, roles in each.items()} == dict.fromkeys(
            ("bearer", "basic", "cookie"), needed
        )
        is_list = isinstance(row, Route) and row.lists
        assert ({} in operation["security"]) == (row.permission.value == "public" or is_list)
    names = [operation["operationId"] for operation in described.values()]
    assert len(names) == len(set(names))


def test_what_is_read_must_be_described() -> None:
    """Whoever writes a body has to say what is in it; only conda-store's own verbs have none."""
    for (method, path), row in ROWS.items():
        if method in ("POST", "PUT") and f"{method} {path}" not in NO_BODY:
            assert isinstance(row, AccountRoute | EntityRoute), path
            assert row.body is not None, f"{method} {path} reads a body, and does not say which (`body=`)"


NO_BODY = frozenset(
    {"POST /api/v1/namespace/{namespace}/", "PUT /api/v1/build/{build}/", "PUT /api/v1/build/{build}/cancel/"}
)
"""Those that read no body."""

OWN = next(row for row in ROUTES if isinstance(row, AccountRoute) and row.path == "/api/v1/token/")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (replace(OWN, gives=None), "does not say what it answers"),
        (replace(OWN, path="/api/v1/token/{unheard_of}/", gives=message()), "unheard_of is not in PATH_FIELDS"),
    ],
    ids=["no answer", "an unknown field"],
)
def test_a_route_that_says_too_little_is_not_described(row: AccountRoute, reason: str) -> None:
    with pytest.raises(UndescribedRoute) as caught:
        write_description([row])
    assert reason in str(caught.value)


def test_other_routes_are_left_to_their_specifications() -> None:
    others = [row for row in ROUTES if isinstance(row, RepositoryRoute) or not row.path.startswith(BEGINNING)]
    assert write_description(others)["paths"] == {}


def test_shapes_become_parameters_bodies_and_answers() -> None:
    row = replace(OWN, query=Tokens, body=NewToken, gives=listing(NewToken) | raw(EVENTS))
    written = write_description([row])
    [operation] = operations(written).values()
    assert [(each["name"], each["in"], each["required"]) for each in operation["parameters"]] == [
        (name, "query", False) for name in ("page", "size", "order", "sort_by")
    ]
    assert operation["parameters"][2]["schema"] == {"enum": ["asc", "desc", ""], "type": "string"}
    content = operation["responses"]["200"]["content"]
    assert set(content) == {"application/json", EVENTS}
    answer = content["application/json"]["schema"]
    assert answer["required"] == ["status", "data", "page", "size", "count"]
    assert answer["additionalProperties"] is False
    sent = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    answered = answer["properties"]["data"]["items"]["$ref"].rpartition("/")[2]
    shapes = written["components"]["schemas"]
    assert shapes[sent]["required"] == shapes[answered]["required"] == ["name"]
    assert shapes[sent]["additionalProperties"] is False


def test_an_answer_may_have_fields_beside_its_data() -> None:
    [operation] = operations(write_description([replace(OWN, gives=data(str, next=str))])).values()
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == {"status", "data", "next"}
    assert schema["required"] == ["status", "data"]


def test_anybody_gets_it(administered: Server) -> None:
    for path in ("/api/openapi.json", "/api/openapi.json/"):
        answer = ask(administered, path)
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
        assert answer.json() == write_description(ROUTES)


def test_the_page_has_a_form_for_each_operation_and_loads_nothing(administered: Server) -> None:
    answer = ask(administered, "/api/docs")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    page = answer.body.decode()
    for (method, path), row in ROWS.items():
        assert f'<form data-method="{method}" data-path="{path}">' in page
        assert f"<code>{row.permission and row.permission.value}" in page
    assert " src=" not in page
    assert "<link" not in page


def test_the_running_server_does_what_is_described(administered: Server, tmp_path: Path) -> None:
    """schemathesis sends what the description allows and what it forbids, and compares what comes back."""
    command: list[str | Path] = [
        Path(sys.executable).with_name("schemathesis"),
        "run",
        f"{administered.url}/api/openapi.json",
    ]
    # not with a token, which one of the requests would revoke
    command += ["--auth", f"alice:{PASSWORD}", "--checks", "all"]
    # a body may be refused for what no schema says, such as an end in the past
    command += ["--exclude-checks", "positive_data_acceptance"]
    # what covers each value of each field takes minutes
    command += [
        "--phases",
        "coverage,fuzzing" if WIDE else "fuzzing",
        "--max-examples",
        "10",
        "--seed",
        "1",
        "--no-color",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    # it does not count the description itself
    assert f"Tested: {len(ROWS) - 1}\n" in done.stdout
