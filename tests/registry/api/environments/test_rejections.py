"""What POST specification/ refuses, each with the field's path and a reason; and what lists refuse."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from tests.support.registry.environments import Answer, Place, serving_environments


def file(**changes: Any) -> dict[str, Any]:
    """A specification whose environment file has these changes; what is `...` is left out."""
    document = {"name": "x", "dependencies": ["one"], **changes}
    text = json.dumps({key: value for key, value in document.items() if value is not ...})
    return {"specification": text, "namespace": "team"}


NAME_RULE = "which has letters, digits and + _ @ $ & ? ^ ~ . = -"

REJECTED: list[tuple[Any, str]] = [
    (file(name=...), "name: it is missing; give the environment a name"),
    (file(name=None), "name: it is null; give the environment a name"),
    (file(name=""), "name: "),
    (file(name="a/b"), f"name: 'a/b' cannot be the name of an environment, {NAME_RULE}"),
    (file(name="+++"), "name: +++ leaves no name for its images; use more letters and digits"),
    (file(channels=None), "channels: it is null; list channels such as conda-forge, or leave the key out"),
    (file(dependencies=None), "dependencies: it is null; list packages such as python=3.12, or write [] for none"),
    (file(dependencies=...), "dependencies: it is missing"),
    (file(dependencies=["one", "python=="]), "dependencies[1]: 'python==' is not a match spec: "),
    (file(dependencies=[{"pip": ["-e ."]}]), "dependencies[0].pip[0]: "),
    (file(dependencies=[{"pip": ["git+https://example.org/x"]}]), "dependencies[0].pip[0]: "),
    (file(dependencies=[{"pip": ["--find-links x"]}]), "dependencies[0].pip[0]: "),
    (file(variables={"A": [1]}), "variables.A: "),
    (file(variables={"A": 1.5}), "variables.A: "),
    (
        file(channels=["file:///elsewhere"]),
        "channel file:///elsewhere is not allowed here: ",
    ),
    ({"specification": "", "namespace": "team"}, "it is empty"),
    ({"specification": "a: [", "namespace": "team"}, ""),
    ({"specification": "- a\n- b\n", "namespace": "team"}, "it must be a mapping with name, channels and dependencies"),
    ({"namespace": "team"}, "specification: it is missing; send the text of an environment file or a lock"),
    ({"specification": 1}, "specification: expected text"),
    ({"specification": "name: x", "is_lockfile": "yes"}, "is_lockfile: expected true or false"),
    ({**file(), "is_lockfile": True}, "it is an environment file; send it as one (is_lockfile: false)"),
    ({**file(), "surprise": 1}, "'surprise': there is no such field; there are specification, namespace"),
    ({**file(), "namespace": "Team"}, "'Team' cannot be the name of a namespace: did you mean 'team'?"),
    ({**file(), "namespace": "mirror"}, "'mirror' cannot be the name of a namespace: the server uses it itself"),
    ({**file(), "environment_description": "x" * 10_001}, "environment_description: it has 10001 characters"),
    ({**file(), "environment_description": "\x1b[2J"}, "environment_description: it has a control character"),
    (
        {"specification": "@EXPLICIT\nhttps://conda.example.org/linux-64/a-1-0.conda#" + "0" * 64, "namespace": "team"},
        "environment_name: it is missing; a lock does not say what its environment is called",
    ),
    ([1], "expected an object"),
]


async def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    async with serving_environments(tmp_path) as place:
        for sent, reason in REJECTED:
            answer = await place.ask("POST", "specification/", sent)
            assert answer.status == 400, (sent, answer.body)
            assert answer.message[: len(reason)] == reason
            assert len(answer.message) > 10
        assert (await place.get("environment/")).json()["count"] == 0, "nothing is left of them"


async def test_a_clash_of_names_is_a_conflict(tmp_path: Path) -> None:
    async with serving_environments(tmp_path) as place:
        await place.post("My_Env", "one")
        answer = await place.ask("POST", "specification/", file(name="my_env"))
        assert answer.status == 409
        assert "its images would be team/my_env, as those of My_Env are; choose another name" in answer.message


async def test_more_than_a_lock_may_have_is_refused_before_it_is_read(tmp_path: Path) -> None:
    async with serving_environments(tmp_path) as place:
        answer = await send_large(place, {"specification": "x" * (25 << 20)})
        assert (answer.status, answer.message) == (413, "the body is larger than 25165824 bytes, the maximum here")
        answer = await send_large(place, {**file(), "specification": "# " + "x" * (1 << 20)})
        assert answer.status == 400
        assert "at most 1048576 are allowed" in answer.message


async def send_large(place: Place, document: Any) -> Answer:
    """Post a specification in pieces, as a client does that does not hold up its own event loop."""
    url, headers = f"{place.url}/api/v1/specification/", {**place.headers, "Content-Type": "application/json"}
    body = io.BytesIO(json.dumps(document).encode())
    async with place.client.post(url, data=body, headers=headers) as answer:
        return Answer(answer.status, answer.headers, await answer.read())


ADDRESSES = [
    ("environment/?sort_by=size", "query parameter sort_by='size': expected one of id, name, namespace"),
    ("environment/?order=up", "query parameter order='up': expected asc or desc"),
    ("environment/?page=0", "query parameter page='0': expected a whole number from 1"),
    ("environment/?size=x", "query parameter size='x': expected a whole number from 1"),
    ("environment/?status=GONE", "query parameter status='GONE': expected one of QUEUED, BUILDING"),
    ("environment/?artifact=TAR", "query parameter artifact='TAR': expected one of DIRECTORY, LOCKFILE"),
    ("environment/?jwt=secret", "query parameter jwt='...': there is no such parameter"),
    ("environment/?name=a&name=b", "query parameter name='b': this parameter is there twice"),
    ("build/?sort_by=name", "query parameter sort_by='name': expected one of id, scheduled_on, started_on"),
    ("build/?environment_id=x", "query parameter environment_id='x': expected a whole number from 1"),
    ("build/x/", "'x' in the path cannot be a build: expected the number of a build"),
    ("build/99999999999/", "'99999999999' in the path cannot be a build: expected the number of a build"),
    ("environment/Team/x/", "'Team' in the path cannot be a namespace: expected"),
    ("environment/team/a%20b/", "'a b' in the path cannot be an environment: expected"),
    ("namespace/Team/", "'Team' in the path cannot be a namespace: expected"),
    ("namespace/?sort_by=created", "query parameter sort_by='created': expected one of"),
]


async def test_what_cannot_be_read_in_an_address(tmp_path: Path) -> None:
    async with serving_environments(tmp_path) as place:
        for path, reason in ADDRESSES:
            answer = await place.ask("GET", path)
            assert (answer.status, answer.message[: len(reason)]) == (400, reason), path


CHANGES: list[tuple[Any, str]] = [
    ({}, "expected build_id, description, or both"),
    ({"build_id": "1"}, "build_id: expected a whole number from 1 to 2147483647"),
    ({"build_id": True}, "build_id: expected a whole number from 1 to 2147483647"),
    ({"description": 1}, "description: expected text"),
    ({"description": "\x00"}, "description: it has a control character"),
    ({"name": "y"}, "'name': there is no such field; there are build_id, description"),
]


async def test_what_an_environment_cannot_become(tmp_path: Path) -> None:
    async with serving_environments(tmp_path) as place:
        await place.post("app", "one")
        for sent, reason in CHANGES:
            answer = await place.ask("PUT", "environment/team/app/", sent)
            assert (answer.status, answer.message) == (400, reason)


async def test_cve_2026_31801_whoever_may_create_and_not_update_changes_nothing_that_is_there(tmp_path: Path) -> None:
    """CVE-2026-31801 (zot): create-only overwrote what was there."""
    people = {"admin": ("*/*=admin",), "maker": ("team/*=maker",)}
    roles = ("maker=environment::read+environment::create",)
    async with serving_environments(tmp_path, people, roles=roles) as place:
        first = await place.post("app", "one")
        maker = place.by("maker")
        refused = await maker.ask("POST", "specification/", file(name="app"))
        assert refused.status == 403
        assert "environment::update" in refused.message
        found = (await place.get("environment/team/app/")).data
        assert (found["current_build_id"], found["last_build_id"]) == (first, first)
        assert (await maker.ask("POST", "specification/", file(name="new"))).status == 200
