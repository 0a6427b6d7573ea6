"""What it costs to know who asks: a manifest with a token and with a password, beside anonymous, and beside others."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from bench.row import Row
from bench.serving.contenders import THREE, peers
from bench.serving.load import in_turn, on_core, wrk
from bench.serving.pushing import Pusher
from tests.support.server import Server
from tests.support.servers import distribution

CONNECTIONS = 16
BEARER_MUST, BASIC_MUST, OTHERS_MUST = 0.8, 0.7, 2.0
REPOSITORY = "team/app"
NAME, PASSWORD = "alice", "correct horse"
# bcrypt with the least cost that it takes, which is what a hasty administrator would choose
HTPASSWD_COST = "4"


def measure(*, short: bool = False) -> list[Row]:
    """All rows of this module; none if wrk is not installed."""
    if not shutil.which("wrk"):
        print("wrk is not installed: credentials are not measured")
        return []
    seconds, runs = (1, 1) if short else (3, 7)
    with tempfile.TemporaryDirectory() as directory, _condery(Path(directory)) as server:
        url = f"{server.url}/v2/{REPOSITORY}/manifests/v1"
        _push(server.port, _basic())
        ways = {"anonymous": "", "a bearer token": f"Bearer {_token(server)}", "a password": _basic()}
        rates = dict(
            zip(ways, in_turn([partial(_rate, url, each, seconds) for each in ways.values()], runs), strict=True)
        )
        rows = [
            _row(f"with {way}", rates[way], must, "anonymous", rates["anonymous"])
            for way, must in (("a bearer token", BEARER_MUST), ("a password", BASIC_MUST))
        ]
        return rows + _beside_others(Path(directory), url, ways, seconds, runs)


def _beside_others(directory: Path, url: str, ways: dict[str, str], seconds: int, runs: int) -> list[Row]:
    program = peers().get(THREE)
    if program is None:
        return []
    rows = []
    for way, authenticated in (("a bearer token", _tokens), ("a password", _htpasswd)):
        own = directory / way.replace(" ", "-")
        own.mkdir()
        auth, credentials = authenticated(own)
        with distribution.serving(program, own, prefix=on_core(0), auth=auth) as (port, _):
            _push(port, credentials)
            other = f"http://127.0.0.1:{port}/v2/{REPOSITORY}/manifests/v1"
            ours, theirs = in_turn(
                [partial(_rate, url, ways[way], seconds), partial(_rate, other, credentials, seconds)], runs
            )
            rows.append(_row(f"with {way}", ours, OTHERS_MUST, f"{THREE} with the same", theirs))
    return rows


@contextlib.contextmanager
def _condery(directory: Path) -> Iterator[Server]:
    """A server where anybody may read, with one account, on the first core."""
    data = directory / "data"
    for line in (f"user add {NAME}", f"role bind team/*=editor --user {NAME}"):
        command = [sys.executable, "-m", "registry.cli", *line.split(), "--data-dir", str(data)]
        subprocess.run(command, input=PASSWORD, text=True, check=True, capture_output=True)
    flags = ("--base", "scratch", "--workers", "1", "--log-level", "error", "--anonymous-bindings", "*=viewer")
    server = Server(flags, data, directory / "log", prefix=tuple(on_core(0)))
    server.start()
    try:
        yield server
    finally:
        server.kill()


def _push(port: int, authorization: str) -> None:
    with Pusher(port, authorization) as pusher:
        pusher.image(REPOSITORY, "v1", [b"layer"])


def _rate(url: str, authorization: str, seconds: int) -> float:
    headers = ["Accept: application/vnd.oci.image.manifest.v1+json"]
    if authorization:
        headers.append(f"Authorization: {authorization}")
    return wrk(url, "Requests/sec", connections=CONNECTIONS, seconds=seconds, headers=headers)


def _row(way: str, rate: float, must: float, peer: str, peer_rate: float) -> Row:
    name = f"manifest GET {way}, {CONNECTIONS} connections, one core"
    return Row(name, rate, "requests/s", must, "at least", peer, peer_rate)


def _basic() -> str:
    return f"Basic {base64.b64encode(f'{NAME}:{PASSWORD}'.encode()).decode()}"


def _token(server: Server) -> str:
    address = f"{server.url}/token?scope=repository:{REPOSITORY}:pull"
    request = urllib.request.Request(address, headers={"Authorization": _basic()})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(json.load(answer)["token"])


def _htpasswd(directory: Path) -> tuple[str, str]:
    """distribution's section of passwords, and credentials for it."""
    command = ["htpasswd", "-nbB", "-C", HTPASSWD_COST, NAME, PASSWORD]
    (directory / "htpasswd").write_text(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return f"auth: {{htpasswd: {{realm: bench, path: {directory}/htpasswd}}}}\n", _basic()


def _tokens(directory: Path) -> tuple[str, str]:
    """distribution's section of tokens, and one that it takes."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = {**json.loads(ECAlgorithm.to_jwk(key.public_key())), "kid": "bench", "use": "sig", "alg": "ES256"}
    (directory / "keys.json").write_text(json.dumps({"keys": [public]}))
    access = [{"type": "repository", "name": REPOSITORY, "actions": ["pull", "push"]}]
    now = int(time.time())
    claims = {"iss": "bench", "aud": "bench", "sub": NAME, "iat": now, "nbf": now, "exp": now + 3600, "access": access}
    token = jwt.encode(claims, key, algorithm="ES256", headers={"kid": "bench"})
    fields = f"realm: http://localhost/token, service: bench, issuer: bench, jwks: {directory}/keys.json"
    return f"auth: {{token: {{{fields}}}}}\n", f"Bearer {token}"
