"""Each route and each command that makes, changes or ends something leaves an event in the audit log.

What a new route or command leaves has to be said here, and so has why it leaves nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from auth.accounts.bindings import Holder
from auth.accounts.groups import Groups
from auth.accounts.names import Names
from auth.sign_in.settings import SignInSettings
from registry.access.token_route import DEVICE_GRANT
from registry.api.environments.files import BUILD_FILES
from registry.cli.app import app
from registry.cli.build_command import BuildCommand
from registry.http.settings import HttpSettings
from registry.routes import ROUTES
from storage.digest import Digest
from tests.support.builder.packages import Package
from tests.support.builder.services import make_channel
from tests.support.registry.access import CLOSED
from tests.support.registry.audited import read_stored
from tests.support.registry.browser import Browser, data_of
from tests.support.registry.environments import Answer, Place, serving_environments
from tests.support.registry.people import BY, PASSWORD, People, basic
from tests.support.registry.pushes import DATA, DIGEST, MANIFEST, Pusher, image_manifest
from tests.support.registry.serving import NUMPY, ROOT, Site, serving
from tests.support.servers.issuer import Issuer

TOLD = {
    "POST /login": {"session.create"},
    "GET /login/callback": {"user.add", "group.join", "session.create"},
    "POST /logout": {"session.end"},
    "GET /token": {"sign-in", "refresh-token.create"},
    "POST /token": {"sign-in", "refresh-token.create", "token.create"},
    "POST /device": {"device.sign-in"},
    "POST /api/v1/token/": {"token.create"},
    "DELETE /api/v1/token/{token}/": {"token.revoke"},
    "POST /v2/{name}/blobs/uploads/": {"blob.push"},
    "PUT /v2/{name}/blobs/uploads/{session}": {"blob.push"},
    "DELETE /v2/{name}/blobs/{digest}": {"blob.delete"},
    "PUT /v2/{name}/manifests/{reference}": {"manifest.push"},
    "DELETE /v2/{name}/manifests/{reference}": {"manifest.delete"},
    "GET /v2/{name}/manifests/{reference}": {"image.build"},
    "GET /files/{name}/{tag}/{file}": {"image.build"},
}
_NAMESPACE = "/api/v1/namespace/{namespace}/"
TOLD_OF_ENVIRONMENTS = {
    f"POST {_NAMESPACE}": {"namespace.create"},
    f"PUT {_NAMESPACE}": {"namespace.metadata", "role.bind"},
    f"PUT {_NAMESPACE}metadata/": {"namespace.metadata"},
    f"DELETE {_NAMESPACE}roles/": {"role.unbind"},
    f"POST {_NAMESPACE}role/": {"role.bind"},
    f"PUT {_NAMESPACE}role/": {"role.bind", "role.unbind"},
    f"DELETE {_NAMESPACE}role/": {"role.unbind"},
    f"DELETE {_NAMESPACE}": {"namespace.delete"},
    "POST /api/v1/specification/": {"environment.create"},
    "POST /api/v1/image/": {"spec.store"},
    "PUT /api/v1/setting/": {"setting.update"},
    "PUT /api/v1/setting/{namespace}/": {"setting.update"},
    "PUT /api/v1/setting/{namespace}/{environment}/": {"setting.update"},
    "PUT /api/v1/build/{build}/": {"environment.rebuild"},
    "PUT /api/v1/build/{build}/cancel/": {"build.cancel"},
    "PUT /api/v1/environment/{namespace}/{environment}/": {"environment.switch", "environment.describe"},
    "DELETE /api/v1/build/{build}/": {"build.delete"},
    "DELETE /api/v1/environment/{namespace}/{environment}/": {"environment.delete"},
}
UNTOLD = {
    "PATCH /v2/{name}/blobs/uploads/{session}": "a session that is not finished has changed nothing yet",
    "DELETE /v2/{name}/blobs/uploads/{session}": "likewise",
    "POST /api/v1/solve/": "nothing is built or recorded",
    "POST /device/code": "codes are worth nothing until somebody allows them",
}
READ = {
    "/", "/healthz", "/readyz", "/login", "/login/provider", "/device", "/v2/", "/v2/_catalog", "/v2/{name}/tags/list",
    "/v2/{name}/referrers/{digest}", "/v2/{name}/blobs/{digest}", "/v2/{name}/blobs/uploads/{session}",
    "/api/v1/permission/", "/api/v1/channel/", "/api/v1/package/", "/api/v1/token/",
    "/api/v1/audit/", "/api/v1/audit/{namespace}/", "/api/openapi.json", "/api/docs",
    "/api/v1/alarm/",
    "/api/v1/watch/", "/api/v1/environment/", "/api/v1/environment/{namespace}/{environment}/", "/api/v1/build/",
    "/api/v1/setting/", "/api/v1/setting/{namespace}/",
    "/api/v1/setting/{namespace}/{environment}/",
    "/api/v1/", "/api/v1/usage/", "/api/v1/namespace/", _NAMESPACE, f"{_NAMESPACE}roles/", f"{_NAMESPACE}role/",
    "/ui/", "/ui/{path:.*}", "/ui/main.css", "/ui/main.js", "/ui/runtime-config.js",
    "/api/v1/build/{build}/", "/api/v1/build/{build}/packages/", "/api/v1/build/{build}/logs/",
    "/api/v1/build/{build}/events/", "/api/v1/build/{build}/docker/", "/api/v1/build/{build}/installer/",
    *(f"/api/v1/build/{{build}}/{end}" for end in BUILD_FILES),
    *(f"/api/v1/environment/{{namespace}}/{{environment}}/{end}"
      for end in ("conda-lock.yml", "conda-lock.yaml", "lockfile/")),
    "/api/v1/build/{build}/difference/", "/api/v1/specification/",
}  # fmt: skip
"""Paths whose GET changes nothing."""


def test_every_route_is_named() -> None:
    rows = {f"{method} {row.path}" for row in ROUTES for method in row.methods if method != "HEAD"}
    assert rows == {*TOLD, *TOLD_OF_ENVIRONMENTS, *UNTOLD, *(f"GET {path}" for path in READ)}


class Requests:
    """One for each row that changes something, by alice, who may do everything in her namespace."""

    def __init__(self, site: Site, issuer: Issuer) -> None:
        self.site, self.issuer, self.ask = site, issuer, Pusher(site)
        self.alice, self.browser = basic("alice"), Browser(site)
        self.token = ""

    async def send(self, method: str, path: str, status: int, data: bytes = b"", **headers: str) -> dict[str, str]:
        found = await self.ask.request(method, path, data=data, headers={**self.alice, **headers})
        assert found.status == status, (method, path, found.status, found.body)
        return dict(found.headers)

    async def form(self, path: str, **form: str) -> dict[str, str]:
        answer = await Browser(self.site).ask("POST", path, form=form)
        assert answer.status == 200, answer.text
        return dict(json.loads(answer.text))

    async def post_login(self) -> None:
        assert (await self.browser.log_in("alice", PASSWORD)).status == 303

    async def get_login_callback(self) -> None:
        answer = await Browser(self.site).sign_in(self.issuer, preferred_username="bob", groups=["dev"])
        assert answer.status == 303, answer.text

    async def post_device(self) -> None:
        codes = await self.form("/device/code", client_id="test")
        answer = await self.browser.send_form("/device", "/device", user_code=codes["user_code"], answer="allow")
        assert answer.status == 200, answer.text
        self.device = codes["device_code"]

    async def post_token(self) -> None:
        await self.form("/token", grant_type=DEVICE_GRANT, device_code=self.device, client_id="test")
        login = {"grant_type": "password", "username": "alice", "password": PASSWORD}
        await self.form("/token", **login, access_type="offline", client_id="other")

    async def post_logout(self) -> None:
        assert (await self.browser.send_form("/login", "/logout")).status == 303

    async def get_token(self) -> None:
        await self.send("GET", "/token?offline_token=true&client_id=third", 200)

    async def post_api_v1_token(self) -> None:
        headers = {**self.alice, "Content-Type": "application/json"}
        made = await self.ask.request("POST", "/api/v1/token/", data=b'{"name": "ci"}', headers=headers)
        self.token = json.loads(made.body)["data"]["id"]

    async def delete_api_v1_token(self) -> None:
        await self.send("DELETE", f"/api/v1/token/{self.token}/", 200)

    async def post_uploads(self) -> None:
        await self.send("POST", f"/v2/alice/app/blobs/uploads/?digest={DIGEST}", 201, DATA)

    async def put_upload(self) -> None:
        begun = await self.send("POST", "/v2/alice/app/blobs/uploads/", 202)
        await self.send("PUT", f"{begun['Location']}?digest={Digest.of(b'{}')}", 201, b"{}")

    async def put_manifest(self) -> None:
        await self.send(
            "PUT", "/v2/alice/app/manifests/v1", 201, image_manifest(b"{}", [DATA]), **{"Content-Type": MANIFEST}
        )

    async def delete_manifest(self) -> None:
        manifest = image_manifest(b"{}", [DATA])
        await self.send("DELETE", f"/v2/alice/app/manifests/{Digest.of(manifest)}", 202)

    async def delete_blob(self) -> None:
        await self.send("DELETE", f"/v2/alice/app/blobs/{DIGEST}", 202)

    async def get_manifest(self) -> None:
        await self.send("HEAD", f"/v2/{NUMPY}/manifests/latest", 200)

    async def get_file(self) -> None:
        await self.send("HEAD", f"/files/{ROOT}/scipy/latest/conda-lock.yml", 503)

    def by_row(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """In an order in which each finds what it needs."""
        return {
            "POST /login": self.post_login,
            "GET /login/callback": self.get_login_callback,
            "POST /device": self.post_device,
            "POST /token": self.post_token,
            "POST /logout": self.post_logout,
            "GET /token": self.get_token,
            "POST /api/v1/token/": self.post_api_v1_token,
            "DELETE /api/v1/token/{token}/": self.delete_api_v1_token,
            "POST /v2/{name}/blobs/uploads/": self.post_uploads,
            "PUT /v2/{name}/blobs/uploads/{session}": self.put_upload,
            "PUT /v2/{name}/manifests/{reference}": self.put_manifest,
            "DELETE /v2/{name}/manifests/{reference}": self.delete_manifest,
            "DELETE /v2/{name}/blobs/{digest}": self.delete_blob,
            "GET /v2/{name}/manifests/{reference}": self.get_manifest,
            "GET /files/{name}/{tag}/{file}": self.get_file,
        }


async def test_every_route_that_changes_something_is_told(tmp_path: Path) -> None:
    async with Issuer() as issuer:
        elsewhere = SignInSettings(oidc_issuer=issuer.url, oidc_client_id="condery", oidc_groups_claim="groups")
        http = HttpSettings(public_url="https://registry.example.org", answer_within=0.05)
        async with serving(tmp_path, http, sign_in=CLOSED, elsewhere=elsewhere) as site:
            people = People(site)
            await people.add("alice", password=PASSWORD)
            await Groups(data_of(site), Names(ROOT)).add("dev", by=BY)
            await people.bindings.bind(Holder("group", "dev"), "team/*=viewer", by=BY)
            found: dict[str, set[str]] = {}
            for row, send in Requests(site, issuer).by_row().items():
                seen = {each.id for each in (await read_stored(site)).events}
                await send()
                new = [each for each in (await read_stored(site)).events if each.id not in seen]
                found[row] = {each.action for each in new if each.outcome == "allowed"}
                assert all(each.principal in ("alice", "bob") and each.client for each in new), row
            assert found == TOLD


class RequestsOfEnvironments:
    """Likewise, by an administrator of a whole server."""

    def __init__(self, place: Place) -> None:
        self.place = place

    async def post_specification(self) -> None:
        self.first = await self.place.post("app", "one")
        assert self.place.server is not None
        self.place.server.hold("held-1.0-0.conda")
        self.waiting = await self.place.post("other", "held")

    async def put_build(self) -> None:
        await self.place.end_of(self.first)
        self.second = int((await self.send("PUT", f"build/{self.first}/")).data["build_id"])

    async def cancel_build(self) -> None:
        await self.send("PUT", f"build/{self.waiting}/cancel/")

    async def put_environment(self) -> None:
        await self.place.end_of(self.second)
        await self.send("PUT", "environment/team/app/", {"build_id": self.first, "description": "x"})

    async def delete_build(self) -> None:
        await self.send("DELETE", f"build/{self.second}/")

    async def delete_environment(self) -> None:
        await self.send("DELETE", "environment/team/app/")

    async def change(self, method: str, end: str, document: Any = None) -> None:
        await self.send(method, f"namespace/lab/{end}", document)

    async def send(self, method: str, path: str, document: Any = None) -> Answer:
        answer = await self.place.ask(method, path, document)
        assert answer.status == 200, answer.body
        return answer

    def by_row(self) -> dict[str, Callable[[], Awaitable[None]]]:
        setting = "PUT /api/v1/setting/"
        return {
            f"POST {_NAMESPACE}": lambda: self.change("POST", ""),
            f"PUT {_NAMESPACE}": lambda: self.change(
                "PUT", "", {"metadata": {"a": 1}, "role_mappings": {"other/*": ["viewer"]}}
            ),
            f"PUT {_NAMESPACE}metadata/": lambda: self.change("PUT", "metadata", {"a": 2}),
            f"DELETE {_NAMESPACE}roles/": lambda: self.change("DELETE", "roles"),
            f"POST {_NAMESPACE}role/": lambda: self.change(
                "POST", "role", {"other_namespace": "other", "role": "viewer"}
            ),
            f"PUT {_NAMESPACE}role/": lambda: self.change(
                "PUT", "role", {"other_namespace": "other", "role": "editor"}
            ),
            f"DELETE {_NAMESPACE}role/": lambda: self.change("DELETE", "role", {"other_namespace": "other"}),
            f"DELETE {_NAMESPACE}": lambda: self.change("DELETE", ""),
            "POST /api/v1/specification/": self.post_specification,
            "POST /api/v1/image/": self.post_image,
            setting: lambda: self.put_setting("setting/"),
            setting + "{namespace}/": lambda: self.put_setting("setting/team/"),
            setting + "{namespace}/{environment}/": lambda: self.put_setting("setting/team/app/"),
            "PUT /api/v1/build/{build}/": self.put_build,
            "PUT /api/v1/build/{build}/cancel/": self.cancel_build,
            "PUT /api/v1/environment/{namespace}/{environment}/": self.put_environment,
            "DELETE /api/v1/build/{build}/": self.delete_build,
            "DELETE /api/v1/environment/{namespace}/{environment}/": self.delete_environment,
        }

    async def post_image(self) -> None:
        answer = await self.place.ask("POST", "image/", {"specification": "dependencies: [one]"})
        assert answer.status == 200, answer.body

    async def put_setting(self, path: str) -> None:
        answer = await self.place.ask("PUT", path, {"kept_builds": 9})
        assert answer.status == 200, answer.body


async def test_every_route_that_changes_an_environment_is_told(tmp_path: Path) -> None:
    async with serving_environments(tmp_path, packages=("one", "held"), served=True) as place:
        found: dict[str, set[str]] = {}
        for row, send in RequestsOfEnvironments(place).by_row().items():
            seen = {each["id"] for each in (await place.get("audit/")).data}
            await send()
            async with place.parts.audit.writing():
                pass
            new = [each for each in (await place.get("audit/")).data if each["id"] not in seen]
            found[row] = {each["action"] for each in new if each["outcome"] == "allowed"}
            assert all(each["principal"] == "admin" and each["client"] for each in new), row
        assert found == TOLD_OF_ENVIRONMENTS


COMMANDS = {
    "user add ann --no-password": "user.add",
    "user passwd ann": "user.password",
    "user sign-out ann": "user.sign-out",
    "user disable ann": "user.disable",
    "user enable ann": "user.enable",
    "user connect ann --issuer proxy --subject ann": "user.connect",
    "user disconnect ann --issuer proxy": "user.disconnect",
    "group add science": "group.add",
    "group join science ann": "group.join",
    "role bind team/*=editor --group science": "role.bind",
    "role unbind team/*=editor --group science": "role.unbind",
    "group leave science ann": "group.leave",
    "group delete science": "group.delete",
    "robot add ci --owner ann --days 9": "robot.add",
    "robot disable ci": "robot.disable",
    "robot enable ci": "robot.enable",
    "token create laptop --user ann": "token.create",
    "token revoke {token}": "token.revoke",
    "robot delete ci": "robot.delete",
    "namespace create team": "namespace.create",
    "namespace quota team 1GB": "namespace.quota",
    "policy set team rules": "policy.set",
    "credential set team https://conda.example.org/team": "credential.set",
    "vault rotate": "vault.rotate",
    "credential remove team https://conda.example.org/team": "credential.remove",
    "namespace delete team": "namespace.delete",
    "user delete ann": "user.delete",
    "env create app.yaml": "environment.create",
    "env update app app.yaml --no-wait": "environment.update",
    "env update app --no-wait": "environment.rebuild",
    "env update app --description text": "environment.describe",
    "build cancel 3": "build.cancel",
    "env rollback app 1": "environment.switch",
    "env import archive.tar --name again": "environment.import",
    "env delete app": "environment.delete",
}
"""Commands that change something, in an order in which they work, and the action of the event that each leaves."""
OTHER_COMMANDS = {
    "audit", "backup", "build", "build list", "build show", "build logs", "demo", "env export", "env list", "env show",
    "env watch", "env alarms",
    "explain", "explain-access", "gc", "lock", "login", "logout", "sample-channel", "serve", "verify", "settings show",
    "policy show", "policy check", "user list", "group list", "robot list", "token list", "role list", "namespace list",
    "credential list", "vault new-key",
}  # fmt: skip
"""They change no right, credential or setting, or do it by a route."""


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Those below a command of typer, whose classes are its own."""
    if isinstance(command, BuildCommand):
        yield " ".join(path)
        command = command.builds
    if not hasattr(command, "list_commands"):
        yield " ".join(path)
        return
    for name in command.list_commands(None):
        yield from commands(command.get_command(None, name), (*path, name))


def test_every_command_is_named() -> None:
    assert set(commands(get_command(app))) == {" ".join(line.split()[:2]) for line in COMMANDS} | OTHER_COMMANDS


def test_every_command_that_changes_something_is_told(
    restored_logs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    channel = asyncio.run(make_channel(tmp_path / "channel", [Package("one")]))
    (tmp_path / "condery.toml").write_text(
        f'data_directory = "data"\nvault_key_file = "keys"\nbase = "scratch"\nchannels = ["{channel}"]\n'
    )
    (tmp_path / "app.yaml").write_text(f"name: app\nchannels: [{channel}]\ndependencies: [one]\n")
    (tmp_path / "rules").write_text('{"denied_packages": ["left-pad"]}')

    def run(line: str, stdin: str = "correct-horse-battery\n") -> str:
        done = CliRunner().invoke(app, line.split(), input=stdin)
        assert done.exit_code == 0, (line, done.output)
        return done.stdout

    def events() -> list[str]:
        return [each["action"] for each in json.loads(run("audit --json --limit 1000"))["events"]]

    (tmp_path / "keys").write_text(run("vault new-key"))
    before, found = 0, {}
    for line in COMMANDS:
        if "{token}" in line:
            (token,) = json.loads(run("token list --json"))
            line = line.replace("{token}", token["id"])
        if line.startswith("env import"):
            run("env export app archive.tar")
        run(line)
        told = events()
        found[line] = told[: len(told) - before]
        before = len(told)
    assert list(found.values()) == [[action] for action in COMMANDS.values()]
