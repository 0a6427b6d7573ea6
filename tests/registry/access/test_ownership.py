"""What belongs to somebody, and what a right in one place says of another."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from auth.tokens.access_tokens import MOST_BELOW
from auth.tokens.account_secrets import MOST_OF_ACCOUNT
from tests.support.registry.people import BY, PASSWORD, People, basic, bearer
from tests.support.registry.pushes import DATA, DIGEST, MANIFEST, Pusher, image_manifest
from tests.support.registry.serving import Site

TOKENS, FOR_CI = "/api/v1/token/", {"name": "ci"}
PULL, PUSH = ("pull",), ("pull", "push")


async def test_cve_2026_32589_an_upload_session_is_its_owners_alone(ask: Pusher, people: People) -> None:
    """CVE-2026-32589 (Quay): foreign upload sessions; GET, PATCH, PUT, DELETE: 404."""
    alice = await people.add("alice", "team/*=editor")
    bob = await people.add("bob", "team/*=editor")
    opened = await ask.request("POST", "/v2/team/app/blobs/uploads/", headers=alice.headers)
    session = opened.headers["Location"]
    for method, path in (
        ("GET", session),
        ("PATCH", session),
        ("PUT", f"{session}?digest={DIGEST}"),
        ("DELETE", session),
    ):
        foreign = await ask.request(method, path, headers=bob.headers, data=b"" if method == "GET" else DATA)
        assert (foreign.status, foreign.code) == (404, "BLOB_UPLOAD_UNKNOWN"), method
    # another token of the same person goes on where the first one stopped
    scoped = bearer((await people.registry_token(alice, {"repository:team/app": PUSH})).text)
    assert (await ask.request("PATCH", session, headers=scoped, data=DATA)).status == 202
    # the session is of one repository
    moved = session.replace("team/app", "team/other")
    assert (await ask.request("GET", moved, headers=alice.headers)).status == 404
    assert (await ask.request("PUT", f"{session}?digest={DIGEST}", headers=alice.headers)).status == 201


async def test_an_account_added_anew_has_no_session_of_its_predecessor(ask: Pusher, people: People) -> None:
    alice = await people.add("alice", "team/*=editor")
    opened = await ask.request("POST", "/v2/team/app/blobs/uploads/", headers=alice.headers)
    session = opened.headers["Location"]
    assert (await ask.request("PATCH", session, headers=alice.headers, data=DATA)).status == 202
    await people.accounts.delete("alice", by=BY)
    successor = await people.add("alice", "team/*=editor")
    assert (await ask.request("POST", "/v2/team/app/blobs/uploads/", headers=successor.headers)).status == 202
    for method, path in (
        ("GET", session),
        ("PATCH", session),
        ("PUT", f"{session}?digest={DIGEST}"),
        ("DELETE", session),
    ):
        found = await ask.request(method, path, headers=successor.headers, data=None if method == "GET" else DATA)
        assert (found.status, found.code) == (404, "BLOB_UPLOAD_UNKNOWN"), method


async def test_cve_2024_39897_a_mount_takes_the_right_to_read_its_source(
    ask: Pusher, people: People, site: Site
) -> None:
    """CVE-2024-39897 (zot): HEAD, GET, and mount with and without `from`, without the right to read."""
    await site.workshop.put_blob(DATA, "secret/app")
    editor = await people.add("editor", "team/*=editor")
    both = await people.add("both", "team/*=editor", "secret/*=viewer")
    mount = f"/v2/team/app/blobs/uploads/?mount={DIGEST}"

    async def statuses(headers: Mapping[str, str]) -> list[int]:
        asked = [("POST", f"{mount}&from=secret/app"), ("POST", mount), ("HEAD", f"/v2/team/app/blobs/{DIGEST}")]
        return [(await ask.request(method, path, headers=headers)).status for method, path in asked]

    for headers in (
        editor.headers,
        bearer(
            (await people.registry_token(editor, {"repository:team/app": PUSH, "repository:secret/app": PULL})).text
        ),
        # the owner may read the source, and the token was not asked for it
        bearer((await people.registry_token(both, {"repository:team/app": PUSH})).text),
        bearer(await people.access_token(both, "team/*=editor")),
    ):
        assert await statuses(headers) == [202, 202, 404]
    for method in ("GET", "HEAD"):
        assert (await ask.request(method, f"/v2/secret/app/blobs/{DIGEST}", headers=editor.headers)).status == 403
    scopes = {"repository:team/app": PUSH, "repository:secret/app": PULL}
    scoped = bearer((await people.registry_token(both, scopes)).text)
    assert (await ask.request("POST", f"{mount}&from=secret/app", headers=scoped)).status == 201


async def paged(ask: Pusher, headers: Mapping[str, str]) -> list[str]:
    """The catalog, two names at a time."""
    found: list[str] = []
    path = "/v2/_catalog?n=2"
    while path:
        page = await ask.request("GET", path, headers=headers)
        found += json.loads(page.body)["repositories"]
        path = page.headers.get("Link", "").partition(">")[0].removeprefix("<")
    return found


async def test_the_catalog_shows_what_may_be_read_and_pages_over_the_rest(
    ask: Pusher, people: People, site: Site
) -> None:
    root = await people.add("root", "*=admin")
    mine = [f"team/app{number}" for number in range(5)]
    for name in [*mine, *(f"hidden/app{number}" for number in range(20))]:
        await site.workshop.put_blob(DATA, name)
        pushed = await ask.request(
            "PUT",
            f"/v2/{name}/manifests/v1",
            data=image_manifest(DATA, []),
            headers={**root.headers, "Content-Type": MANIFEST},
        )
        assert pushed.status == 201, pushed.body
    alice = await people.add("alice", "team/*=viewer")
    assert await paged(ask, alice.headers) == mine
    # and so it does for whoever may read one here and one there
    for bindings, shown in (
        (("*=viewer", "hidden/app3=viewer"), sorted([*mine, *(f"hidden/app{number}" for number in range(20))])),
        (("*e*/*=viewer", "*/app1=viewer"), sorted([*mine, *(f"hidden/app{number}" for number in range(20))])),
        (("hidden/app7=viewer", "team/app1=viewer", "te*/*3=viewer"), ["hidden/app7", "team/app1", "team/app3"]),
    ):
        limited = bearer(await people.access_token(root, *bindings))
        assert await paged(ask, limited) == shown
    nobody = await ask.request("GET", "/v2/_catalog")
    assert nobody.status == 200
    assert json.loads(nobody.body) == {"repositories": []}


async def test_conda_store_two_entities_in_one_request_are_checked_apart(
    ask: Pusher, people: People, site: Site
) -> None:
    """conda-store cached the first check of a request."""
    await site.workshop.put_blob(DATA, "secret/app")
    editor = await people.add("editor", "team/*=editor")
    path = f"/v2/team/app/blobs/uploads/?mount={DIGEST}&from=secret/app"
    assert (await ask.request("POST", path, headers=editor.headers)).status == 202
    again = await ask.request("GET", "/v2/secret/app/tags/list", headers=editor.headers)
    assert again.status == 403


async def test_cve_2026_40264_a_foreign_token_is_neither_listed_nor_revoked(ask: Pusher, people: People) -> None:
    """CVE-2026-40264 (OpenBao): another tenant's token revoked."""
    alice, bob = await people.add("alice"), await people.add("bob", "*=admin")
    listed = json.loads((await ask.request("GET", "/api/v1/token/", headers=bob.headers)).body)["data"]
    assert {each["owner"] for each in listed} == {"bob"}
    refused = await ask.request("DELETE", f"/api/v1/token/{alice.token_id}/", headers=bob.headers)
    assert refused.status == 404
    assert (await ask.request("GET", "/v2/", headers=alice.headers)).status == 200


@pytest.mark.parametrize("token", ["a%00", "%ED%A0%80", "a" * 31, "A" * 32, "a" * 33, "current%00", "%F0%9F%90%8D"])
async def test_what_is_no_tokens_id_is_never_searched_for(
    ask: Pusher, people: People, site: Site, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    """PostgreSQL refuses a query with NUL in it, which would be an error of the server."""
    alice = await people.add("alice")

    async def search(*_: object, **__: object) -> None:
        pytest.fail("it was searched for")

    monkeypatch.setattr(site.access.tokens.access, "revoke_for", search)
    answer = await ask.request("DELETE", f"/api/v1/token/{token}/", headers=alice.headers)
    assert (answer.status, json.loads(answer.body)["code"]) == (404, "TOKEN_UNKNOWN")


async def test_harbor_robot_bindings_are_a_subset_of_their_makers(ask: Pusher, people: People) -> None:
    """Robot for another project (Harbor), CVE-2024-41942 (JupyterHub): nobody grants what they lack."""
    alice = await people.add("alice", "team/*=editor")
    for binding in ("secret/*=viewer", "team/*=admin", "*=viewer", "t*/*=viewer"):
        asked = json.dumps({"name": "more", "bindings": [binding]}).encode()
        headers = {**alice.headers, "Content-Type": "application/json"}
        assert (await ask.request("POST", "/api/v1/token/", data=asked, headers=headers)).status == 403, binding


async def test_cve_2019_16097_unknown_and_privileged_fields_are_refused(ask: Pusher, people: People) -> None:
    """CVE-2019-16097 (Harbor): self-registered admin."""
    alice = await people.add("alice")
    headers = {**alice.headers, "Content-Type": "application/json"}
    for field in ("admin", "owner", "account", "id", "hash", "parent", "is_admin"):
        asked = json.dumps({"name": "x", field: True}).encode()
        assert (await ask.request("POST", "/api/v1/token/", data=asked, headers=headers)).status == 400, field


async def test_cve_2026_40864_no_page_of_another_site_makes_a_token(ask: Pusher, people: People, site: Site) -> None:
    """CVE-2026-40864 (JupyterHub): form and JSON POST with every Sec-Fetch value, with and without Origin."""
    alice = await people.add("alice")
    body, json_type = b'{"name":"x"}', {"Content-Type": "application/json"}
    for fetch_site in ("cross-site", "same-site", "same-origin, cross-site", "anything"):
        for mode in ("navigate", "no-cors", "cors", "same-origin", "websocket"):
            headers = {**alice.headers, **json_type, "Sec-Fetch-Site": fetch_site, "Sec-Fetch-Mode": mode}
            assert (await ask.request("POST", "/api/v1/token/", data=body, headers=headers)).status == 403
    for origin in ("https://evil.example.org", "null", site.url + ".evil.example.org", ""):
        headers = {**alice.headers, **json_type, "Origin": origin}
        assert (await ask.request("POST", "/api/v1/token/", data=body, headers=headers)).status == 403
    for form in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"):
        headers = {**alice.headers, "Content-Type": form}
        assert (await ask.request("POST", "/api/v1/token/", data=body, headers=headers)).status == 400
    own = {**alice.headers, **json_type, "Origin": site.url, "Sec-Fetch-Site": "same-origin"}
    assert (await ask.request("POST", "/api/v1/token/", data=body, headers=own)).status == 200


async def test_who_may_push_and_who_may_only_delete(ask: Pusher, people: People, site: Site) -> None:
    editor, admin = await people.add("editor", "team/*=editor"), await people.add("admin", "team/*=admin")
    config = b"{}"
    manifest = image_manifest(config, [DATA])
    for data in (config, DATA):
        await site.workshop.put_blob(data, "team/app")
    pushed = await ask.request(
        "PUT", "/v2/team/app/manifests/v1", data=manifest, headers={**editor.headers, "Content-Type": MANIFEST}
    )
    assert pushed.status == 201, pushed.body
    for reference in ("v1", pushed.headers["Docker-Content-Digest"]):
        refused = await ask.request("DELETE", f"/v2/team/app/manifests/{reference}", headers=editor.headers)
        assert refused.status == 403
    assert (await ask.request("DELETE", "/v2/team/app/manifests/v1", headers=admin.headers)).status == 202


async def test_a_limited_token_takes_no_credential_of_its_owner_away(ask: Pusher, people: People) -> None:
    """It can fill the room that it has for what is made with it, and that alone."""
    alice = await people.add("alice", "team/*=editor", password=PASSWORD)
    limited = bearer(await people.access_token(alice, "team/app=viewer"))
    refresh = "/token?offline_token=true&service=condery"
    docker = json.loads((await ask.request("GET", refresh, headers=basic("alice"))).body)["refresh_token"]
    for _ in range(MOST_OF_ACCOUNT + 1):
        assert (await ask.request("GET", refresh, headers=limited)).status == 200
    statuses = {(await ask.request("POST", TOKENS, headers=limited, json=FOR_CI)).status for _ in range(MOST_BELOW)}
    assert statuses == {200}
    refused = await ask.request("POST", TOKENS, headers=limited, json=FOR_CI)
    assert refused.status == 400
    assert f"{MOST_BELOW} tokens were made with this one" in refused.body.decode()
    assert (await ask.request("POST", TOKENS, headers=basic("alice"), json=FOR_CI)).status == 200
    form = {"grant_type": "refresh_token", "refresh_token": docker, "service": "condery"}
    async with ask.site.request("POST", "/token", data=form) as answer:
        assert answer.status == 200
