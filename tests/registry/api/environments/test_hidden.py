"""What is not somebody's to know of environments is as if it was not there: by id, in lists, in streams, by extending.

CVE-2022-31667, -31669, -31670 (Harbor): ids of other projects. CVE-2024-28179 (jupyter-server-proxy): streams.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from auth.accounts.bindings import HeldBindings, Holder
from auth.changing import AccessData
from auth.role import Roles
from registry.dispatch import EntityRoute, Route
from registry.routes import ROUTES
from tests.support.registry.environments import BY, Answer, Place, serving_environments
from tests.support.registry.people import bearer

PEOPLE = {
    "ann": ("team/*=admin", "other/*=admin"),
    "eve": ("other/*=admin", "tea/*=admin", "teams/*=admin"),
    "vic": ("other/*=editor", "team/secret=viewer"),
}
FIELDS = re.compile(r"\{(\w+)\}")


def things(known: dict[str, str], unknown: dict[str, str]) -> Iterator[tuple[str, str, str, dict[str, str]]]:
    """Each row about a thing of team's, with its path, and the same with what is nowhere."""
    for row in ROUTES:
        fields = FIELDS.findall(row.path)
        if isinstance(row, EntityRoute) and fields:
            # the last says which thing it is
            missing = {**known, fields[-1]: unknown[fields[-1]]}
            for method in row.methods:
                path = row.path.removeprefix("/api/v1/")
                yield method, path.format(**known), path.format(**missing), {fields[-1]: unknown[fields[-1]]}


def told(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    """An answer without what differs from one to the next."""
    left_out = ("Date", "X-Request-ID", "Content-Length")
    return answer.status, {k: v for k, v in answer.headers.items() if k not in left_out}, answer.body


async def test_cve_2022_31667_31669_31670_what_is_foreign_is_answered_as_what_is_nowhere(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, PEOPLE) as ann:
        build = (await ann.make("secret", "one"))["id"]
        await ann.by("eve").make("own", "one", namespace="other")
        known = {"namespace": "team", "environment": "secret", "build": str(build)}
        unknown = {"namespace": "nowhere", "environment": "nothing", "build": "2147483000"}
        body = {"primary_namespace": "other", "role_bindings": {"other/*": ["viewer"]}}
        limited = bearer((await ann.ask("POST", "token/", body)).data["token"])
        for who in (ann.by("eve"), ann.by(None), replace(ann, headers=limited)):
            for method, path, other, names in things(known, unknown):
                document = {"build_id": build} if method in ("PUT", "POST") else None
                for query in ("", "?follow=1") if path.endswith("logs/") else ("",):
                    hidden = await who.ask(method, path + query, document)
                    missing = await who.ask(method, other + query, document)
                    assert hidden.status in (401, 404), (method, path, hidden.body)
                    text = hidden.body.decode()
                    for field, value in names.items():
                        text = text.replace(known[field], value)
                    assert told(replace(hidden, body=text.encode())) == told(missing), (method, path)
        # nothing was changed by any of these, and whoever may see it still does
        assert (await ann.get("environment/team/secret/")).data["current_build_id"] == build
        assert (await ann.get("build/?namespace=team")).json()["count"] == 1


async def test_lists_say_the_same_whether_it_is_there_or_not(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, PEOPLE) as ann:
        eve, anybody = ann.by("eve"), ann.by(None)
        await eve.make("own", "one", namespace="other")
        before = [await lists(who) for who in (eve, anybody)]
        await ann.make("secret", "one", "two")
        assert [await lists(who) for who in (eve, anybody)] == before
        assert await lists(ann) != before[0]


async def lists(who: Place) -> dict[str, tuple[int, bytes]]:
    """What each list answers, with each filter that would find what is team's."""
    filters = ("namespace=team", "name=secret", "search=secret", "packages=two", "status=COMPLETED", "environment_id=2",
               "artifact=DOCKER_MANIFEST", "order=desc", "page=1&size=5", "page=2&size=1")  # fmt: skip
    found = {}
    for row in ROUTES:
        if isinstance(row, Route) and row.lists and row.path.startswith("/api/v1/") and "package" not in row.path:
            path = row.path.removeprefix("/api/v1/")
            for query in ("", *filters):
                if path not in ("specification/", "channel/"):
                    answer = await who.ask("GET", f"{path}?{query}")
                    found[f"{path}?{query}"] = answer.status, answer.body
    return found


async def test_a_build_of_another_environment_becomes_no_current_one(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, PEOPLE) as ann:
        foreign = (await ann.make("secret", "one"))["id"]
        eve = ann.by("eve")
        own = (await eve.make("own", "one", namespace="other"))["id"]
        answers = [await eve.ask("PUT", "environment/other/own/", {"build_id": each}) for each in (foreign, 2147483000)]
        assert [each.status for each in answers] == [404, 404]
        assert answers[0].message.replace(str(foreign), "2147483000") == answers[1].message
        assert (await eve.get("environment/other/own/")).data["current_build_id"] == own
        for against in (foreign, 2147483000):
            assert (await eve.ask("GET", f"build/{own}/difference/?against={against}")).status == 404


async def test_what_may_not_be_read_any_more_is_extended_by_no_new_build(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, PEOPLE) as ann:
        await ann.make("secret", "one")
        vic = ann.by("vic")
        text = json.dumps(
            {"name": "mine", "channels": [ann.channel], "dependencies": ["two"], "extends": "team/secret"}
        )
        made = await vic.ask("POST", "specification/", {"specification": text, "namespace": "other"})
        done = await vic.end_of(made.data["build_id"])
        assert done["status"] == "COMPLETED", done
        bindings = bindings_of(ann)
        await bindings.unbind(Holder("account", "vic"), "team/secret=viewer", by=BY)
        again = await vic.ask("PUT", f"build/{done['id']}/")
        assert again.status == 400
        for path, name in (("specification/", "team/secret"), ("solve/", "team/secret"), ("solve/", "team/nothing")):
            body = {"specification": text.replace("team/secret", name), "namespace": "other"}
            refused = await vic.ask("POST", path, body)
            assert refused.status == 400
            assert refused.message == again.message.replace("team/secret", name)


@pytest.mark.parametrize("path", ["logs/?follow=1", "events/"])
async def test_cve_2024_28179_a_stream_ends_with_the_right_to_it(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.api.logs.BEAT_SECONDS", 0.2)
    monkeypatch.setattr("registry.api.logs.RIGHTS_SECONDS", 0.0)
    async with serving_environments(tmp_path, PEOPLE, packages=("one", "held"), served=True) as ann:
        assert ann.server is not None
        ann.server.hold("held-1.0-0.conda")
        build = await ann.post("secret", "held")
        url = f"{ann.url}/api/v1/build/{build}/{path}"
        async with asyncio.timeout(60), ann.client.get(url, headers=ann.by("vic").headers) as stream:
            assert stream.status == 200
            await stream.content.readuntil(b"still here")
            await bindings_of(ann).unbind(Holder("account", "vic"), "team/secret=viewer", by=BY)
            rest = await stream.content.read()
            # nobody is told that the build has ended: it has not
            assert b"event: end" not in rest
        async with ann.client.get(url, headers=ann.by("vic").headers) as stream:
            assert stream.status == 404
        assert (await ann.ask("PUT", f"build/{build}/cancel/")).status == 200


def bindings_of(place: Place) -> HeldBindings:
    return HeldBindings(AccessData(place.parts.blobs.database, place.parts.changes), Roles())


ODD: tuple[tuple[str, str, Any, dict[str, str], set[int]], ...] = (
    ("GET", "environment/team%2Fsecret/secret/", None, {}, {400}),
    ("GET", "environment/other/..%2F..%2Fteam%2Fsecret/", None, {}, {400}),
    ("GET", "environment/other/%2E%2E/team/secret/", None, {}, {404}),
    ("GET", "environment/TEAM/secret/", None, {}, {400}),
    ("GET", "environment/te%61m/secret/", None, {}, {404}),
    ("GET", "setting/other%2Fown%2F..%2Fteam/", None, {}, {400, 403}),
    ("GET", "setting/%2A/", None, {}, {400, 403}),
    ("PUT", "setting/%2A/", {"kept_builds": 1}, {}, {400, 403}),
    ("GET", "audit/%2A/", None, {}, {400, 403}),
    ("GET", "audit/other%2Fown/", None, {}, {400, 403, 404}),
    ("GET", "build/99999999999999999999/", None, {}, {400}),
    ("GET", "build/-1/", None, {}, {400}),
    ("GET", "build/%D9%A1/", None, {}, {400}),
    ("GET", "build/1e0/", None, {}, {400}),
    ("GET", "environment/team/secret/", None, {"X-HTTP-Method-Override": "DELETE"}, {404}),
    ("POST", "environment/other/own/", {}, {"X-HTTP-Method-Override": "DELETE"}, {405}),
    ("POST", "specification/", {"specification": "name: x", "namespace": "team"}, {}, {403}),
    ("POST", "specification/", {"specification": "name: x", "namespace": "team/secret"}, {}, {400}),
    ("POST", "specification/", {"specification": "name: x", "namespace": "Other"}, {}, {400}),
    ("POST", "specification/", {"specification": "name: x", "namespace": "conda-store-dynamic"}, {}, {400}),
    ("POST", "specification/", {"specification": "name: x", "namespace": "mirror"}, {}, {400}),
    ("POST", "specification/", {"specification": "name: x", "namespace": "*"}, {}, {400}),
    ("POST", "specification/", {"specification": "name: x", "namespace": "other", "is_admin": True}, {}, {400}),
    ("PUT", "environment/other/own/", {"build_id": 1, "namespace": "team"}, {}, {400}),
    ("PUT", "environment/other/own/", {"build_id": True}, {}, {400}),
    ("PUT", "environment/other/own/", {"build_id": 1e300}, {}, {400}),
    ("PUT", "setting/other/", {"anonymous_bindings": ["*=admin"]}, {}, {400}),
    ("PUT", "setting/", {"kept_builds": 1}, {}, {403}),
    ("POST", "namespace/team/role/", {"other_namespace": "other", "role": "admin"}, {}, {404}),
    ("POST", "namespace/other/role/", {"other_namespace": "team", "role": "viewer"}, {}, {403}),
    ("PUT", "namespace/other/", {"role_mappings": {"*/*": ["admin"]}}, {}, {403}),
    ("PUT", "namespace/other/", {"role_mappings": {"team/secret": ["viewer"]}}, {}, {403}),
    ("PUT", "namespace/other/", {"metadata": {}, "name": "team"}, {}, {400}),
)


async def test_what_nobody_would_send_opens_nothing(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, PEOPLE) as ann:
        build = (await ann.make("secret", "one"))["id"]
        eve = ann.by("eve")
        await eve.make("own", "one", namespace="other")
        for method, path, document, headers, statuses in ODD:
            answer = await eve.ask(method, path, document, **headers)
            assert answer.status in statuses, (method, path, document, answer.status, answer.body)
            assert b"one" not in answer.body.split(b'"message"')[0]
        twice = b'{"specification":"name: x","namespace":"other","namespace":"team"}'
        kind = {"Content-Type": "application/json"}
        async with eve.client.post(
            f"{eve.url}/api/v1/specification/", data=twice, headers={**eve.headers, **kind}
        ) as it:
            assert it.status == 400
        assert (await ann.get("environment/team/secret/")).data["current_build_id"] == build
        assert [each["name"] for each in (await ann.get("environment/")).data] == ["own", "secret"]
        assert (await eve.get("namespace/other/")).data["role_mappings"] == []


async def test_a_page_of_another_site_has_nothing_solved(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, PEOPLE) as ann:
        path = f"specification/?channels={ann.channel.replace('/', '%2F').replace(':', '%3A')}&conda=one"
        assert (await ann.ask("GET", path, **{"Sec-Fetch-Site": "cross-site"})).status == 403
        assert (await ann.ask("GET", path, **{"Sec-Fetch-Site": "same-origin"})).status == 200


async def test_names_that_are_suggested_at_pulls_are_those_that_one_may_read(tmp_path: Path) -> None:
    people = {"ann": ("team/*=admin",), "vic": ("team/secrets=viewer",)}
    async with serving_environments(tmp_path, people) as ann:
        await ann.make("secret", "one")
        for who, hint in ((ann, "; did you mean team/secret?"), (ann.by("vic"), "")):
            for path in ("v2/team/secrets/manifests/latest", "files/team/secrets/latest/pixi.lock"):
                async with ann.client.get(f"{ann.url}/{path}", headers=who.headers) as answer:
                    assert answer.status == 404
                    assert "".join((await answer.text()).partition("; did you mean team/secret?")[1]) == hint
