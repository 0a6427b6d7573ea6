"""Clients that sign in: with a password or an access token, each in its own way, and what they are told in vain.

Nothing here may be read by whoever does not sign in.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.clients import layouts
from tests.clients.pushed import layers
from tests.support.programs import ClientError, Containerd, Crane, Docker, OrasCommand, Podman, Skopeo, run
from tests.support.registry.commands import run_line
from tests.support.server import Server

pytestmark = pytest.mark.clients

PASSWORD = "correct horse battery"
TEAM = "team"


@dataclass(frozen=True)
class Guarded:
    """A server with alice, who may push to `team`, and bob, who may read there."""

    server: Server
    token: str
    """An access token of alice, limited to reading."""

    @property
    def address(self) -> str:
        return self.server.address

    def name(self, repository: str) -> str:
        return f"{self.address}/{TEAM}/{repository}"


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    directory = tmp_path_factory.mktemp("guarded")
    data = directory / "data"
    for name, role in (("alice", "editor"), ("bob", "viewer")):
        run_line(data, f"user add {name}", PASSWORD)
        run_line(data, f"role bind {TEAM}/*={role} --user {name}")
    run_line(data, "role bind public/*=editor --user alice")
    token = run_line(data, f"token create clients --user alice --limit {TEAM}/*=viewer")
    flags = ("--base", "scratch", "--workers", "1", "--anonymous-bindings", "public/*=viewer")
    server = Server(flags, data, directory / "log")
    server.start()
    yield Guarded(server, token)
    server.kill()


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "image.tar"
    layouts.write_archive(path, "made/by:hand", layers())
    return path


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("layouts") / "layout"
    layouts.write_layout(directory, "v1", {"amd64": layers()})
    return directory


@pytest.fixture(scope="session")
def pushed(guarded: Guarded, layout: Path, skopeo: Skopeo) -> str:
    """An image that is there."""
    reference = f"{guarded.name('shared')}:v1"
    skopeo.push(f"oci:{layout}:v1", reference, "--dest-creds", f"alice:{PASSWORD}")
    return reference


def feed(command: list[str | Path], text: str) -> None:
    done = subprocess.run([str(each) for each in command], input=text, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise ClientError(f"{done.stdout}{done.stderr}")


def test_docker_logs_in_pushes_pulls_and_logs_out(
    docker: Docker, guarded: Guarded, archive: Path, tmp_path: Path
) -> None:
    command = ["docker", "--config", str(tmp_path)]
    reference = f"{guarded.name('docker')}:v1"
    docker.load(archive)
    docker.tag("made/by:hand", reference)
    try:
        with pytest.raises(ClientError, match="denied"):
            run([*command, "push", reference])
        with pytest.raises(ClientError, match="unauthorized"):
            feed([*command, "login", "-u", "alice", "--password-stdin", guarded.address], "wrong")
        feed([*command, "login", "-u", "alice", "--password-stdin", guarded.address], PASSWORD)
        assert PASSWORD not in guarded.server.log.read_text()
        run([*command, "push", reference])
        docker.remove_images_of(guarded.address)
        run([*command, "pull", reference])
        docker.tag(reference, f"{guarded.address}/elsewhere/app:v1")
        with pytest.raises(ClientError, match=r"denied: alice may not push to elsewhere/app \(environment::create\)"):
            run([*command, "push", f"{guarded.address}/elsewhere/app:v1"])
        run([*command, "logout", guarded.address])
        docker.remove_images_of(guarded.address)
        with pytest.raises(ClientError, match="pull access denied"):
            run([*command, "pull", reference])
        # an access token is a password; this one may only read
        feed([*command, "login", "-u", "alice", "--password-stdin", guarded.address], guarded.token)
        run([*command, "pull", reference])
        docker.tag(reference, f"{guarded.name('docker')}:v2")
        with pytest.raises(ClientError, match=r"denied: .*the token's limits leave it out"):
            run([*command, "push", f"{guarded.name('docker')}:v2"])
    finally:
        docker.remove_images_of(guarded.address)


def test_what_anybody_may_read_takes_no_login(
    docker: Docker, podman: Podman, skopeo: Skopeo, guarded: Guarded, layout: Path, tmp_path: Path
) -> None:
    reference = f"{guarded.address}/public/app:v1"
    skopeo.push(f"oci:{layout}:v1", reference, "--dest-creds", f"alice:{PASSWORD}")
    try:
        run(["docker", "--config", str(tmp_path), "pull", reference])
    finally:
        docker.remove_images_of(guarded.address)
    podman.pull(reference)
    podman.remove_all()
    skopeo.copy(reference, f"dir:{tmp_path / 'copy'}")


def test_podman(podman: Podman, guarded: Guarded, pushed: str, archive: Path, tmp_path: Path) -> None:
    file = ("--authfile", str(tmp_path / "auth.json"), "--tls-verify=false")
    with pytest.raises(ClientError, match=r"pull from team/shared \(environment::read\); sign in with docker login"):
        run(podman.command("pull", "--quiet", "--tls-verify=false", pushed))
    feed(podman.command("login", "-u", "alice", "--password-stdin", *file, guarded.address), PASSWORD)
    run(podman.command("pull", "--quiet", *file, pushed))
    podman.load(archive)
    run(podman.command("push", "--quiet", *file, "made/by:hand", f"{guarded.name('podman')}:v1"))
    with pytest.raises(ClientError, match=r"403 \(Forbidden\)"):
        run(podman.command("push", "--quiet", *file, "made/by:hand", f"{guarded.address}/elsewhere/app:v1"))
    run(podman.command("logout", "--authfile", str(tmp_path / "auth.json"), guarded.address))
    podman.remove_all()


def test_podman_uses_dockers_login_and_makes_none_beside_it(
    podman: Podman, guarded: Guarded, pushed: str, tmp_path: Path
) -> None:
    """docs/clients.md quotes what it says, and which ways out there are."""

    file = tmp_path / "auth.json"
    file.write_text("{}")

    def at_home(*command: str | Path) -> list[str | Path]:
        return ["env", f"HOME={tmp_path}", f"REGISTRY_AUTH_FILE={file}", *command]

    plain = "--tls-verify=false"
    user = ("-u", "alice", "--password-stdin")
    login = at_home(*podman.command("login", *user, plain, guarded.address))
    feed(at_home("docker", "login", *user, guarded.address), PASSWORD)
    run(at_home(*podman.command("pull", "--quiet", plain, pushed)))
    with pytest.raises(ClientError, match="currently logged in, auth file contains an Identity token"):
        feed(login, PASSWORD)
    feed(["env", f"DOCKER_CONFIG={tmp_path / 'other'}", *login], PASSWORD)
    run(at_home(*podman.command("logout", guarded.address)))
    run(at_home("docker", "logout", guarded.address))
    feed(login, PASSWORD)
    podman.remove_all()


def test_what_is_asked_by_head_is_refused_without_words(
    podman: Podman, guarded: Guarded, archive: Path, tmp_path: Path
) -> None:
    podman.load(archive)
    file = tmp_path / "auth.json"
    file.write_text("{}")
    push = podman.command("push", "--quiet", "--tls-verify=false", "--authfile", str(file))
    with pytest.raises(ClientError, match=r"failed to read from destination repository team/none: 403 \(Forbidden\)"):
        run([*push, "made/by:hand", f"{guarded.name('none')}:v1"])
    podman.remove_all()


def test_skopeo(skopeo: Skopeo, guarded: Guarded, pushed: str, layout: Path, tmp_path: Path) -> None:
    for credentials in (f"bob:{PASSWORD}", f"whoever:{guarded.token}"):
        skopeo.copy(pushed, f"dir:{tmp_path / credentials[:3]}", "--src-creds", credentials)
        with pytest.raises(
            ClientError, match=r"may not push to team/skopeo( with this token)? \(environment::create\)"
        ):
            skopeo.push(f"oci:{layout}:v1", f"{guarded.name('skopeo')}:v1", "--dest-creds", credentials)
    for wrong in ("bob:wrong", "nobody:wrong"):
        with pytest.raises(ClientError, match="invalid username/password"):
            skopeo.copy(pushed, f"dir:{tmp_path / 'wrong'}", "--src-creds", wrong)
    with pytest.raises(ClientError, match="; sign in with docker login"):
        skopeo.copy(pushed, f"dir:{tmp_path / 'none'}")


def test_skopeo_mounts_what_it_may_read(skopeo: Skopeo, guarded: Guarded, pushed: str) -> None:
    creds = f"alice:{PASSWORD}"
    target = f"docker://{guarded.name('copied')}:v1"
    skopeo.copy(pushed, target, "--dest-tls-verify=false", "--src-creds", creds, "--dest-creds", creds)
    assert skopeo_tags(guarded, "copied") == ["v1"]


def skopeo_tags(guarded: Guarded, repository: str) -> list[str]:
    url = f"{guarded.server.url}/v2/{TEAM}/{repository}/tags/list"
    answer = requests.get(url, auth=("bob", PASSWORD), timeout=30)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["tags"])


def test_oras(oras_command: OrasCommand, guarded: Guarded, tmp_path: Path) -> None:
    (oras_command.directory / "note.txt").write_text("hello")
    config = ("--registry-config", str(tmp_path / "config.json"))
    reference = f"{guarded.name('oras')}:v1"
    with pytest.raises(ClientError, match="403"):
        oras_command("push", *config, reference, "note.txt")
    oras_command("login", *config, "-u", "alice", "-p", PASSWORD, guarded.address)
    oras_command("push", *config, reference, "note.txt")
    oras_command("pull", *config, "--output", str(tmp_path), reference)
    assert (tmp_path / "note.txt").read_text() == "hello"
    with pytest.raises(ClientError, match="403"):
        oras_command("push", *config, f"{guarded.address}/elsewhere/app:v1", "note.txt")
    oras_command.run("logout", *config, guarded.address)


def test_crane(crane: Crane, guarded: Guarded, pushed: str, tmp_path: Path) -> None:
    def logged_in(*words: str | Path) -> str:
        return run(["env", f"DOCKER_CONFIG={tmp_path}", crane.program, *words]).strip()

    with pytest.raises(ClientError, match="; sign in with docker login"):
        logged_in("manifest", "--insecure", pushed)
    logged_in("auth", "login", guarded.address, "-u", "alice", "-p", PASSWORD)
    assert json.loads(logged_in("manifest", "--insecure", pushed))
    logged_in("copy", "--insecure", pushed, f"{guarded.name('crane')}:v1")
    with pytest.raises(ClientError, match="403 Forbidden"):
        logged_in("copy", "--insecure", pushed, f"{guarded.address}/elsewhere/app:v1")
    logged_in("auth", "logout", guarded.address)


def test_containerd_which_asks_by_post_first(containerd: Containerd, guarded: Guarded, pushed: str) -> None:
    pull = ["images", "pull", "--plain-http"]
    with pytest.raises(ClientError, match="403"):
        run(containerd.command(*pull, pushed))
    for secret in (PASSWORD, guarded.token):
        run(containerd.command(*pull, "--user", f"alice:{secret}", pushed))
        containerd.remove(pushed)


def test_a_client_that_sends_a_form_and_keeps_its_refresh_token(guarded: Guarded) -> None:
    """As containerd and docker's newer stores do (distribution, "OAuth2 Token Authentication")."""
    form = {"grant_type": "password", "username": "bob", "password": PASSWORD, "service": "condery"}
    form |= {"client_id": "test", "access_type": "offline", "scope": f"repository:{TEAM}/shared:pull"}
    given = requests.post(f"{guarded.server.url}/token", data=form, timeout=30).json()
    again = {"grant_type": "refresh_token", "service": "condery", "refresh_token": given["refresh_token"]}
    renewed = requests.post(f"{guarded.server.url}/token", data=again | {"scope": form["scope"]}, timeout=30).json()
    for token in (given["access_token"], renewed["access_token"]):
        answer = requests.get(
            f"{guarded.server.url}/v2/{TEAM}/shared/tags/list", headers={"Authorization": f"Bearer {token}"}, timeout=30
        )
        assert answer.status_code in (200, 404)


def test_curl_with_a_password_or_a_token(guarded: Guarded, pushed: str) -> None:
    url = f"{guarded.server.url}/v2/{TEAM}/shared/tags/list"
    for login in (f"bob:{PASSWORD}", f"x:{guarded.token}"):
        assert json.loads(run(["curl", "--fail", "--silent", "--show-error", "-u", login, url]))["tags"] == ["v1"]
    for login in ("bob:wrong", "x:condery_nonsense"):
        with pytest.raises(ClientError, match="401"):
            run(["curl", "--fail", "--silent", "--show-error", "-u", login, url])


def test_python_docker(guarded: Guarded, pushed: str) -> None:
    """The library that conda-store's own tests use; it reads docker's manifests alone, so tags have to do."""
    import python_docker.registry

    registry = python_docker.registry.Registry(f"http://{guarded.address}", username="bob", password=PASSWORD)
    with registry.session:
        registry.authenticate(f"{TEAM}/shared", "pull")
        assert registry.list_image_tags(f"{TEAM}/shared") == ["v1"]
