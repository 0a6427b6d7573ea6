"""Faults that other registries and their neighbours had, each sent to a server of ours.

docs/security.md has the table of all of them; those that are not here have their tests where their subject is.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from auth.accounts.hashing import HashPool
from auth.permission import Permission
from auth.settings import AccessSettings
from auth.sign_in.workload_settings import WorkloadSettings
from registry.api.description.handlers import get_page
from registry.dispatch import AccountRoute, changes_things
from registry.routes import ROUTES
from tests.support.auth.forgeries import FORGERIES, SERVICE, Forger
from tests.support.registry.access import CLOSED
from tests.support.registry.browser import Browser
from tests.support.registry.people import BY, PASSWORD, People, basic, bearer
from tests.support.registry.pushes import DATA, DIGEST, Pusher
from tests.support.registry.serving import ROOT, Site, serving
from tests.support.rooms import PACKAGES
from tests.support.rooms import ROOT as REPOSITORY
from tests.support.servers.issuer import Issuer, segment, to_jwk
from tests.support.wide import WIDE

JSON = {"Content-Type": "application/json"}
LONGEST_TOKEN = 5900
"""Characters that fit into a header as the password of Basic."""


async def forger_of(site: Site, account: str) -> Forger:
    return Forger(await site.access.tokens.keys.current(), account)


async def statuses(ask: Pusher, token: str) -> set[int]:
    """What is answered to it as any credential."""
    form = {"grant_type": "refresh_token", "refresh_token": token}
    async with ask.site.request("POST", "/token", data=form) as refreshed:
        found = {refreshed.status}
    paths = ("/v2/team/app/tags/list", "/token?scope=repository:team/app:pull", "/v2/", "/api/v1/token/")
    # each that is no token by its looks is compared with the password, which takes its time
    for headers, asked in ((bearer(token), paths), (basic("alice", token), paths if WIDE else paths[:1])):
        for path in asked:
            found.add((await ask.request("GET", path, headers=headers)).status)
    return found


class TestForgedTokens:
    """CVE-2025-24976 (distribution), CVE-2026-27962 and CVE-2025-59420 (Authlib), PyJWT's `crit`."""

    async def test_cve_2025_24976_cve_2026_27962_cve_2025_59420_registry_tokens(self, tmp_path: Path) -> None:
        settings = CLOSED.model_copy(update={"service_name": SERVICE, "login_attempts": 1_000_000})
        async with serving(tmp_path, sign_in=settings) as site:
            ask, alice = Pusher(site), await People(site).add("alice", "*=admin")
            forger = await forger_of(site, alice.principal.id)
            right = bearer(forger.sign(forger.header(), forger.claims()))
            assert (await ask.request("GET", "/v2/team/app/tags/list", headers=right)).status == 404
            for name, forge in FORGERIES.items():
                token = forge(forger)
                if token.isascii() and len(token) < LONGEST_TOKEN:
                    assert await statuses(ask, token) == {401}, name

    @pytest.mark.parametrize("extension", ["jwk", "jku", "x5u", "x5c", "crit", "none", "HS256", "kid"])
    async def test_cve_2025_24976_cve_2026_27962_cve_2025_59420_workloads(self, tmp_path: Path, extension: str) -> None:
        async with Issuer() as issuer:
            workload = WorkloadSettings(
                workload_issuers=(issuer.url,),
                workload_audience=SERVICE,
                workload_rules=('sub == "somebody" -> admin on team/*',),
            )
            async with serving(tmp_path, sign_in=CLOSED, workload=workload) as site:
                claims = issuer.claims(aud=SERVICE)
                right = bearer(issuer.sign(claims))
                assert (await Pusher(site).request("GET", "/v2/team/app/tags/list", headers=right)).status == 404
                forged = Issuer(url=issuer.url)
                forged.rotate("other" if extension == "kid" else "first")
                values = {
                    "jwk": to_jwk(next(iter(forged.keys.values())), "first"),
                    "crit": ["exp2"],
                    "x5c": ["MII="],
                }
                if extension in ("none", "HS256"):
                    head = segment({"alg": extension, "kid": "first", "typ": "JWT"})
                    token = f"{head}.{segment(claims)}.{'' if extension == 'none' else 'AAAA'}"
                else:
                    header = {} if extension == "kid" else {extension: values.get(extension, "https://evil.example")}
                    token = forged.sign(claims, header)
                assert await statuses(Pusher(site), token) == {401}


async def test_cve_2026_44428_a_token_of_another_server_or_service(tmp_path: Path) -> None:
    """MCP registry: a shared audience. Another server has other keys; another service of one database has ours."""

    def named(name: str) -> AccessSettings:
        return CLOSED.model_copy(update={"service_name": name})

    async with (
        serving(tmp_path / "one", sign_in=named("one")) as one,
        serving(tmp_path / "one", sign_in=named("two")) as same_database,
        serving(tmp_path / "other", sign_in=named("one")) as same_name,
    ):
        alice = await People(one).add("alice", "team/*=editor")
        path = "/token?scope=repository:team/app:pull&offline_token=true"
        given = json.loads((await Pusher(one).request("GET", path, headers=alice.headers)).body)
        for site, status in ((one, 404), (same_database, 401), (same_name, 401)):
            found = await Pusher(site).request("GET", "/v2/team/app/tags/list", headers=bearer(given["token"]))
            assert found.status == status
            form = {"grant_type": "refresh_token", "refresh_token": given["refresh_token"]}
            async with site.request("POST", "/token", data=form) as refreshed:
                assert refreshed.status == (200 if site is one else 401)


async def test_gitlab_426887_copies_of_other_registries_obey_scopes(ask: Pusher, people: People) -> None:
    alice = await people.add("alice", "team/*=editor", "mirror/docker.io/*=viewer")
    debian = "mirror/docker.io/debian"
    paths = [
        f"/v2/{debian}/{rest}"
        for rest in ("manifests/12", f"manifests/{DIGEST}", f"blobs/{DIGEST}", "tags/list", f"referrers/{DIGEST}")
    ] + [f"/files/{debian}/12/conda-lock.yml"]
    team = (await people.registry_token(alice, {"repository:team/app": ("pull", "push")})).text
    other = (await people.registry_token(alice, {"repository:mirror/docker.io/alpine": ("pull",)})).text
    nothing = (await people.registry_token(alice, {})).text
    limited = await people.access_token(alice, "team/*=editor")
    for path in paths:
        for token in (team, other, nothing):
            found = await ask.request("GET", path, headers=bearer(token))
            assert found.status == 401, path
            assert f'scope="repository:{debian}:pull"' in found.headers.getall("WWW-Authenticate")[0]
        assert (await ask.request("GET", path, headers=bearer(limited))).status == 403, path
        # nothing is mirrored here
        assert (await ask.request("GET", path, headers=alice.headers)).status == 404, path
    # a limited token is exchanged for none that is not
    given = await ask.request("GET", f"/token?scope=repository:{debian}:pull", headers=bearer(limited))
    assert json.loads(given.body)["scope"] == ""


async def test_cve_2026_24791_limits_hold_on_routes_about_oneself(ask: Pusher, people: People) -> None:
    """Gitea: what shows and changes one's own things forgot the limits of the token."""
    alice = await people.add("alice", "*=admin")
    limited = bearer(await people.access_token(alice, "team/*=viewer"))
    shown = json.loads((await ask.request("GET", "/api/v1/permission/", headers=limited)).body)["data"]
    everything = {each for permissions in shown["entity_permissions"].values() for each in permissions}
    assert shown["entity_permissions"].keys() == {"team/*"}
    assert Permission.ENVIRONMENT_READ in everything
    assert not everything & {Permission.ENVIRONMENT_CREATE, Permission.ENVIRONMENT_DELETE, Permission.AUDIT_READ}
    for path in ("/api/v1/audit/", "/api/v1/audit/team/"):
        assert (await ask.request("GET", path, headers=alice.headers)).status == 200
        assert (await ask.request("GET", path, headers=limited)).status == 403
    # each row about whoever asks has its case above, in test_token_route or in test_device
    about_oneself = {(row.methods, row.path) for row in ROUTES if isinstance(row, AccountRoute) and not row.entity}
    assert {path for _, path in about_oneself} <= {
        *("/api/v1/token/", "/api/v1/token/{token}/", "/logout", "/device"),
    }


SETTINGS = [
    f"{prefix}{path}"
    for prefix in ("/api/v1/", "/api/v2.0/", "/api/", "/", "/v2/", "/conda-store/api/v1/")
    for path in ("setting/", "setting", "setting/team/", "setting/team/app/", "settings", "configurations", "config")
]


@pytest.mark.parametrize("who", ["an admin of everything", "an editor", "nobody"])
async def test_cve_2024_22278_settings_have_no_side_door(ask: Pusher, people: People, who: str) -> None:
    """Harbor: settings by a side door. Those of environments have routes, which know no others: the settings file and
    `condery policy` change what the server itself does, and no request."""
    root = await people.add("root", "*=admin")
    editor = await people.add("editor", "team/*=editor")
    headers = {"an admin of everything": root.headers, "an editor": editor.headers, "nobody": {}}[who]
    body = json.dumps({"data": {"anonymous_bindings": ["*=admin"]}, "anonymous_bindings": ["*=admin"]}).encode()
    for path in SETTINGS:
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
            found = await ask.request(method, path, headers={**headers, **JSON}, data=body if "P" in method else None)
            assert found.status in (401, 403, 404, 405), (method, path)
    assert (await ask.request("GET", "/v2/team/app/tags/list")).status == 401
    rows = {row.path for row in ROUTES if row.permission in (Permission.SETTING_READ, Permission.SETTING_UPDATE)}
    assert all(path.startswith("/api/v1/setting/") for path in rows), "test_hidden has the others"


PRIVILEGED = ("admin", "is_admin", "administrator", "role", "roles", "owner", "account", "user_id", "sysadmin_flag")


async def test_cve_2019_16097_no_body_has_unknown_or_privileged_fields(ask: Pusher, people: People, site: Site) -> None:
    """Harbor: whoever registered could say that they were an admin. Here every body but those of OAuth is tried."""
    alice = await people.add("alice", password=PASSWORD)
    written = {
        (method, row.path)
        for row in ROUTES
        if not row.path.startswith("/v2/")
        for method in row.methods
        if method in ("POST", "PUT", "PATCH")
    }
    # two pages, what reads no body, and two endpoints of OAuth; whatever else there is is JSON
    login, device, none = ("POST", "/login"), ("POST", "/device"), ("POST", "/logout")
    oauth = {("POST", "/token"), ("POST", "/device/code")}
    assert {login, device, none, *oauth, ("POST", "/api/v1/token/")} <= written
    for field in PRIVILEGED:
        credentials = {"username": "alice", "password": PASSWORD, field: True}
        found = await ask.request("POST", "/login", headers=JSON, data=json.dumps(credentials).encode())
        assert found.status == 400, field
    browser = Browser(site)
    login_form = {**await browser.open_form("/login"), "username": "alice", "password": PASSWORD}
    for field in PRIVILEGED:
        assert (await browser.ask("POST", "/login", form={**login_form, field: "true"})).status == 400, field
    assert (await browser.ask("POST", "/login", form=login_form)).status == 303
    device_form = {**await browser.open_form("/device"), "user_code": "x"}
    for field in PRIVILEGED:
        assert (await browser.ask("POST", "/device", form={**device_form, field: "true"})).status == 400, field
    assert (await browser.ask("POST", "/device", form=device_form)).status == 404, "no device has this code"
    for method, path in written - {login, device, none} - oauth:
        for field in PRIVILEGED:
            body = json.dumps({"name": "x", field: True}).encode()
            found = await ask.request(method, path, headers={**alice.headers, **JSON}, data=body)
            assert found.status in (400, 403, 404), (method, path, field)
    # OAuth has fields of the form left out that are not known (RFC 6749, 3.2), so they change nothing
    form = {"grant_type": "password", "username": "alice", "password": PASSWORD, "scope": "repository:team/app:pull"}
    more = {**dict.fromkeys(PRIVILEGED, "admin"), "bindings": "*=admin", "sub": "root", "access": "*"}
    async with ask.site.request("POST", "/token", data={**form, **more}) as response:
        assert json.loads(await response.read())["scope"] == ""


async def test_cve_2026_40864_no_page_of_another_site_changes_anything(ask: Pusher, people: People) -> None:
    """JupyterHub: Sec-Fetch-Mode passed for proof. Every row that changes something, with what other pages can send."""
    alice = await people.add("alice", "*=admin")
    changing = [
        (method, row.path)
        for row in ROUTES
        if changes_things(row) and (row.form != "token" and not row.path.startswith("/v2/"))
        for method in row.methods
    ]
    foreign: list[Mapping[str, str]] = [
        {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": destination}
        for site in ("cross-site", "same-site", "anything")
        for mode in ("navigate", "no-cors", "cors", "same-origin", "websocket")
        for destination in ("document", "empty", "iframe")
    ]
    foreign += [{"Origin": origin} for origin in ("https://evil.example", "null", "")]
    foreign += [{"Origin": "null", "Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "cross-site", "Origin": "x"}]
    bodies = (b'{"name":"x"}', JSON), (b"name=x", {"Content-Type": "application/x-www-form-urlencoded"})
    for method, path in changing:
        filled = path.replace("{token}", alice.token_id)
        for field, value in (("{namespace}", "team"), ("{environment}", "Env"), ("{build}", "1")):
            filled = filled.replace(field, value)
        assert "{" not in filled, "say above what stands there"
        for headers in foreign:
            for data, kind in bodies:
                found = await ask.request(method, filled, headers={**alice.headers, **kind, **headers}, data=data)
                assert found.status == 403, (method, path, headers)
    assert (await ask.request("GET", "/v2/", headers=alice.headers)).status == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", ""])
async def test_cve_2026_40864_no_page_pushes_or_deletes(ask: Pusher, people: People, origin: str) -> None:
    alice = await people.add("alice", "*=admin")
    await ask.request("POST", f"/v2/team/app/blobs/uploads/?digest={DIGEST}", headers=alice.headers, data=DATA)
    for method, path in (
        ("POST", "/v2/team/app/blobs/uploads/"),
        ("PUT", "/v2/team/app/manifests/v1"),
        ("DELETE", f"/v2/team/app/blobs/{DIGEST}"),
    ):
        found = await ask.request(method, path, headers={**alice.headers, "Origin": origin}, data=b"{}")
        assert (found.status, found.code) == (403, "DENIED")
    assert (await ask.request("GET", f"/v2/team/app/blobs/{DIGEST}", headers=alice.headers)).body == DATA


Door = Callable[[Site, str, str], Awaitable[object]]
"""Shows a name and a password, and returns what everybody is told who has another name."""


def by_header(method: str, path: str, **form: str) -> Door:
    async def show(site: Site, name: str, password: str) -> object:
        async with site.request(method, path, headers=basic(name, password), data=form or None) as answer:
            return answer.status, await answer.read(), answer.headers.getall("WWW-Authenticate", [])

    return show


async def by_grant(site: Site, name: str, password: str) -> object:
    form = {"grant_type": "password", "username": name, "password": password}
    async with site.request("POST", "/token", data=form) as answer:
        return answer.status, await answer.read()


async def by_json(site: Site, name: str, password: str) -> object:
    async with site.request("POST", "/login", json={"username": name, "password": password}) as answer:
        return answer.status, "name or the password is wrong" in await answer.text()


async def by_page(site: Site, name: str, password: str) -> object:
    answer = await Browser(site).log_in(name, password)
    return answer.status, "name or the password is wrong" in answer.text


DOORS: Mapping[str, Door] = {
    "the registry": by_header("GET", "/v2/"),
    "a repository": by_header("GET", "/v2/team/app/tags/list"),
    "the REST API": by_header("GET", "/api/v1/token/"),
    "a file": by_header("GET", f"/files/{ROOT}/numpy/latest/conda-lock.yml"),
    "a token by GET": by_header("GET", "/token?scope=repository:team/app:pull"),
    "a token by POST": by_header("POST", "/token", access_type="online"),
    "a token for a password in a form": by_grant,
    "a page": by_page,
    "conda-store's clients": by_json,
}


@pytest.mark.parametrize("door", DOORS)
async def test_enumeration_by_timing_unknown_and_known_users_cost_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    """The same hashes and the same queries, whoever the name is of; and the same answer."""
    done: list[str] = []
    matches = HashPool.matches

    async def note_hash(self: HashPool, stored: str | None, secret: bytes, **how: Any) -> bool:
        usual = not self.is_outdated(self.hash_of_nobody if stored is None else stored)
        done.append("hash of the usual cost" if usual else "another hash")
        return await matches(self, stored, secret, **how)

    def note_query(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        # the audit log is written beside it, whenever it can be
        if "account" in statement:
            done.append(statement)

    settings = CLOSED.model_copy(update={"login_attempts": 1000})
    async with serving(tmp_path, sign_in=settings) as site:
        people = People(site)
        for name in ("known", "disabled"):
            await people.add(name, password=PASSWORD)
        await people.add("elsewhere")
        await people.accounts.disable("disabled", by=BY)
        # what is done once for all
        await DOORS[door](site, "first", "wrong")
        monkeypatch.setattr(HashPool, "matches", note_hash)
        engine = site.workshop.store.database.engine.sync_engine
        event.listen(engine, "before_cursor_execute", note_query)
        work = {}
        try:
            for name in ("known", "unknown", "elsewhere", "disabled", "Known", "x" * 64):
                done.clear()
                told = await DOORS[door](site, name, f"wrong for {name}")
                work[name] = (done.copy(), told)
        finally:
            event.remove(engine, "before_cursor_execute", note_query)
    assert work["unknown"][0].count("hash of the usual cost") == 1
    for name, each in work.items():
        assert each == work["known"], name


async def test_clickjacking_and_script_no_page_is_framed_or_runs_any(ask: Pusher) -> None:
    """Every row whose answers are pages, as it answers, and as it refuses."""
    pages = [row for row in ROUTES if row.form == "page"]
    assert pages
    for row in pages:
        for method in {*row.methods, "OPTIONS"}:
            found = await ask.request(method, f"{row.path}?next=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
            policy = found.headers["Content-Security-Policy"]
            assert "frame-ancestors 'none'" in policy, (method, row.path)
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert found.headers["X-Content-Type-Options"] == "nosniff"
            body = found.body
            if row.handler is get_page and method == "GET":
                # of the page to try the API exactly the one that its policy names runs
                [script] = re.findall(rb"<script>(.*?)</script>", found.body, re.DOTALL)
                assert f"script-src 'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" in policy
                body = body.replace(b"<script>" + script, b"")
            assert not re.search(rb"<script|javascript:|<[^>]*\s(on\w+|style)=", body.lower())


IMPORTING = {
    # it speaks over a pipe with processes that it has started itself
    "pickle": {"builder/work/pool.py", "builder/work/worker.py"},
}


def test_cve_2026_3199_nothing_from_outside_is_unpickled() -> None:
    """Nexus: unsafe deserialisation of tasks."""
    found: dict[str, set[str]] = {}
    for path, tree in modules():
        for node in ast.walk(tree):
            names = [each.name for each in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in {"pickle", "marshal", "shelve", "dill", "celery"} & {name.partition(".")[0] for name in names}:
                found.setdefault(name, set()).add(path)
    assert found == IMPORTING


STARTING = {
    # each starts a fixed list of words
    "builder/solve/child.py",
    # the words of others are in files; the rest was made here
    "builder/pypi/uv.py",
    "registry/cli/demonstration.py",
    # a command for this machine's own files, which no request reaches
    "builder/sample_channel/elf.py",
    "builder/sample_channel/indexing.py",
    "builder/sample_channel/wheel_cache.py",
}


STARTS = frozenset({"create_subprocess_exec", "Popen", "run", "call", "check_call", "check_output"})
SHELLS = frozenset({"create_subprocess_shell", "getoutput", "getstatusoutput", "system", "popen"})


def test_cve_2021_39159_no_text_of_a_request_is_on_a_command_line() -> None:
    """BinderHub: a user's text became options of git. Nothing that answers requests starts a program with any."""
    starting: set[str] = set()
    for path, tree in modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            called = node.func
            if isinstance(called.value, ast.Name) and called.value.id in ("asyncio", "subprocess", "os"):
                assert called.attr not in SHELLS, path
                assert not called.attr.startswith(("exec", "spawn", "posix_spawn")), path
                if called.attr in STARTS and (called.value.id, called.attr) != ("asyncio", "run"):
                    starting.add(path)
                    assert not any(each.arg == "shell" for each in node.keywords), path
    assert starting == STARTING


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            yield str(path.relative_to(REPOSITORY)), ast.parse(path.read_text())


async def test_on_demand_names_of_a_private_server_start_nothing(ask: Pusher, site: Site) -> None:
    await ask.request("GET", f"/v2/{ROOT}/numpy/manifests/latest")
    assert not site.workshop.builds
