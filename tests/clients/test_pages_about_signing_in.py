"""Every command of the pages about signing in is run as it is written, with the address of a server of the tests."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from auth.settings import AccessSettings
from auth.sign_in.workload_settings import WorkloadSettings
from tests.clients import layouts
from tests.clients.pushed import layers
from tests.support.programs import Crane, Docker, OrasCommand, Podman, Skopeo, run
from tests.support.registry.people import bearer
from tests.support.registry.serving import serving
from tests.support.rooms import ROOT
from tests.support.server import Server
from tests.support.servers.issuer import Issuer

pytestmark = pytest.mark.clients

PASSWORD = "correct-horse-battery"
AUDIENCE = "https://registry.example.org"
BLOCK = re.compile(r"(?:^    .*\n)+", re.MULTILINE)
STEP = re.compile(r"^\s*(?:- )?((?:echo|docker|condery) .*)$", re.MULTILINE)


def commands_of(page: str) -> list[str]:
    """The commands in its indented blocks; one may go on on the next line."""
    text = (ROOT / "docs" / page).read_text()
    blocks = [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in BLOCK.findall(text)]
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


@dataclass(frozen=True)
class Place:
    """A server where alice may push to `team`, and a directory in which commands run."""

    server: Server
    directory: Path

    def run(self, words: Sequence[str | Path], stdin: str = "", more: Mapping[str, str] | None = None) -> str:
        done = subprocess.run(
            [str(each) for each in words],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=self.directory,
            env={**os.environ, "HOME": str(self.directory), "PYTHONPATH": str(ROOT), **(more or {})},
            timeout=120,
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def condery(self, *words: str, stdin: str = "") -> str:
        of_the_store = words[0] not in ("login", "logout")
        data = ("--data-dir", str(self.server.data_dir)) if of_the_store else ()
        return self.run([sys.executable, "-m", "registry.cli", *words, *data], stdin)

    def fill(self, line: str) -> str:
        """The line with this server's address, and what else stands in it for something else."""
        for name in ("registry.example.org", "localhost:5000"):
            line = line.replace(name, self.server.address)
        line = line.replace("https://", "http://").replace("SECRET", PASSWORD).replace('"$PASSWORD"', PASSWORD)
        # a token cannot last longer than the settings let it, and the page does not know the day
        line = re.sub(r', "expires": "[0-9TZ:-]+"', "", line)
        if re.search(r"\bID\b", line):
            made = json.loads(self.condery("token", "list", "--json"))
            line = re.sub(r"\bID\b", next(each["id"] for each in made if each["name"] == "deploy"), line)
        return line


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("page")
    server = Server(("--base", "scratch", "--workers", "1"), directory / "data", directory / "log")
    place = Place(server, directory)
    place.condery("user", "add", "alice", stdin=PASSWORD)
    place.condery("robot", "add", "team-ci")
    for holder in ("--user=alice", "--robot=team-ci"):
        place.condery("role", "bind", "team/*=editor", holder)
    server.start()
    yield place
    server.kill()


@pytest.fixture
def image(place: Place, skopeo: Skopeo, tmp_path: Path) -> None:
    """team/app:v1."""
    layouts.write_layout(tmp_path / "layout", "v1", {"amd64": layers()})
    target = f"{place.server.address}/team/app:v1"
    skopeo.push(f"oci:{tmp_path / 'layout'}:v1", target, "--dest-creds", f"alice:{PASSWORD}")


@pytest.mark.usefixtures("docker", "image", "skopeo")
def test_every_command_of_signing_in(
    place: Place, podman: Podman, oras_command: OrasCommand, crane: Crane, tmp_path: Path
) -> None:
    done: list[str] = []
    for line in commands_of("signing-in.md"):
        program, *words = shlex.split(place.fill(line))
        done.append(program)
        user = ("-u", "alice", "--password-stdin")
        match program:
            case "docker":
                place.run(["docker", "--config", tmp_path, *words, *user], PASSWORD)
            case "podman":
                file = ("--authfile", str(tmp_path / "podman.json"), "--tls-verify=false")
                place.run(podman.command(*words, *file, *user), PASSWORD)
            case "oras":
                registry_config = ("--registry-config", str(tmp_path / "oras.json"))
                place.run([oras_command.program, *words, "--plain-http", *registry_config, *user], PASSWORD)
            case "crane":
                place.run([crane.program, *words], more={"DOCKER_CONFIG": str(tmp_path)})
            case "skopeo":
                place.run(["skopeo", "--insecure-policy", words[0], "--src-tls-verify=false", *words[1:]])
            case "curl":
                answer = json.loads(place.run(["curl", "--silent", "--show-error", "--fail", *words]))
                assert answer.get("status", "ok") == "ok"
            case "condery":
                place.condery(*words, stdin=f"{PASSWORD}\n")
            case _:
                pytest.fail(f"the page has {line!r}, which nothing here runs")
    assert done.count("condery") >= 7
    assert set(done) == {"docker", "podman", "oras", "crane", "skopeo", "curl", "condery"}
    assert json.loads((place.directory / ".docker" / "config.json").read_text())["auths"]


def steps_of(page: str) -> list[str]:
    """The lines of its fenced blocks that speak to a registry, on a shell or in a job."""
    text = (ROOT / "docs" / page).read_text()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [step for language, block in blocks if language != "toml" for step in STEP.findall(block)]


async def test_every_docker_command_of_workload_identity(docker: Docker, tmp_path: Path) -> None:
    """Played by docker against an issuer of the tests. The commands of kubectl take a cluster, and are not run."""
    layouts.write_archive(tmp_path / "image.tar", "made/by:hand", layers())
    docker.load(tmp_path / "image.tar")
    steps = steps_of("workload-identity.md")
    assert len(steps) == 5
    async with Issuer() as issuer:
        workload = WorkloadSettings(
            workload_issuers=(issuer.url,),
            workload_audience=AUDIENCE,
            workload_rules=('sub == "job" -> editor on team/*',),
        )
        async with serving(
            tmp_path / "data", sign_in=AccessSettings(anonymous_bindings=("none",)), workload=workload
        ) as site:
            address = site.url.removeprefix("http://")
            docker.tag("made/by:hand", f"{address}/team/app")
            token = issuer.token(sub="job", aud=AUDIENCE)
            more = {"DOCKER_CONFIG": str(tmp_path), "TOKEN": token, "CONDERY_TOKEN": token}
            try:
                for step in steps:
                    line = step.replace("registry.example.org", address)
                    await asyncio.to_thread(
                        run, ["env", *(f"{name}={value}" for name, value in more.items()), "sh", "-c", line]
                    )
                async with site.request("GET", "/v2/team/app/tags/list", headers=bearer(token)) as answer:
                    assert (await answer.json(content_type=None))["tags"] == ["latest"]
            finally:
                docker.remove_images_of(address)
