"""`condery build` and `condery lock` from a channel in a registry (oci://) that wants a login."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.support.builder.oci_channel import HOST, USER, OciChannel, serving_oci
from tests.support.builder.packages import Package, write_channel

pytestmark = pytest.mark.services

Run = Callable[..., Any]
SECRET = "hunter2-secret"
CHANNEL = f"oci://{HOST}/channel"
WITH_CHANNEL = ("--channel", CHANNEL, "--base", "scratch")


@pytest.fixture(params=["Basic", "Bearer"])
def registry(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OciChannel]:
    scheme: Literal["Basic", "Bearer"] = request.param
    directory = tmp_path_factory.mktemp("registry")
    write_channel(directory / "channel", [Package("lib", "1.0", files={"share/lib": b"1"})])
    channel = OciChannel(directory / "channel", SECRET, scheme)
    try:
        with serving_oci(channel, directory) as authority:
            monkeypatch.setenv("SSL_CERT_FILE", str(authority))
            yield channel
    except OSError as error:
        pytest.skip(f"this account cannot listen on port 443: {error}")


@pytest.fixture
def run(condery: Run, tmp_path: Path) -> Run:
    """A command on a store with a vault; fails for another exit code than `code`, and if it shows the secret."""

    def run(line: str, *more: object, code: int = 0, stdin: str = "") -> str:
        done = condery(*line.split(), *more, stdin=stdin)
        assert done.exit_code == code, (line, done.stdout, done.stderr)
        assert SECRET not in done.stdout + done.stderr
        return str(done.stdout + done.stderr)

    (tmp_path / "condery.toml").write_text('data_directory = "data"\nvault_key_file = "keys"\n')
    (tmp_path / "keys").write_text(run("vault new-key"))
    run("namespace create team")
    return run


def write_logins(path: Path, password: str) -> Path:
    path.write_text(json.dumps({HOST: {"BasicHTTP": {"username": USER, "password": password}}}))
    return path


def test_a_login_of_the_credentials_file(run: Run, registry: OciChannel, tmp_path: Path) -> None:
    logins = ("--credentials", write_logins(tmp_path / "logins", SECRET))
    assert "cannot be read" in run("lock lib", *WITH_CHANNEL, code=1)
    wrong = ("--credentials", write_logins(tmp_path / "wrong", "a-guess"))
    assert "cannot be read" in run("lock lib", *WITH_CHANNEL, *wrong, code=1)
    assert f"{CHANNEL}/linux-64/lib-1.0-0.conda#sha256:" in run("lock lib --format explicit", *WITH_CHANNEL, *logins)
    assert "@sha256:" in run("build lib", *WITH_CHANNEL, *logins)
    assert any("/lib/manifests/" in path for path, _ in registry.asked)


def test_a_login_of_the_namespace(run: Run, registry: OciChannel, tmp_path: Path) -> None:
    run(f"credential set conda-store-dynamic oci://{HOST} --username {USER}", stdin=SECRET)
    assert f"{CHANNEL}/linux-64/lib-1.0-0.conda#sha256:" in run("lock lib --format explicit", *WITH_CHANNEL)
    assert "@sha256:" in run("build lib", *WITH_CHANNEL)
    run(f"credential remove conda-store-dynamic oci://{HOST}")
    assert "cannot be read" in run("lock lib", *WITH_CHANNEL, code=1)
    for file in (tmp_path / "data").rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes()


def test_a_login_of_another_namespace_is_not_used(run: Run, registry: OciChannel) -> None:
    run(f"credential set team oci://{HOST} --username {USER}", stdin=SECRET)
    assert "cannot be read" in run("lock lib", *WITH_CHANNEL, code=1)
    assert registry.login not in {authorization for _, authorization in registry.asked}


def test_a_login_of_the_namespace_goes_before_that_of_the_file(run: Run, registry: OciChannel, tmp_path: Path) -> None:
    wrong = ("--credentials", write_logins(tmp_path / "wrong", "a-guess"))
    run(f"credential set conda-store-dynamic oci://{HOST} --username {USER}", stdin=SECRET)
    assert "@sha256:" in run("build lib", *WITH_CHANNEL, *wrong)
