"""`condery login` and `condery logout`."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from yarl import URL

from registry.cli.commands.accounts.opening import PasswordFile, read_password
from registry.cli.display import echo
from registry.cli.options import UsageError, reports_errors, run_async
from registry.errors import RequestError

if TYPE_CHECKING:
    from registry.cli.logins import LoginFile

SECONDS = 30
LARGEST = 1 << 20
THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})

Server = Annotated[str, typer.Argument(metavar="SERVER", help="The server's host and port, as in names of images.")]
File = Annotated[
    Path | None, typer.Option("--file", metavar="PATH", help="File of logins; without it ~/.config/condery/auth.json.")
]
Docker = Annotated[bool, typer.Option("--docker", help="Use the file ~/.docker/config.json.")]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Speak to another machine by http:// without encryption, if SERVER says so.")
]


class LoginFailed(RequestError):
    """The server did not accept the login, or is no condery."""


@reports_errors
def login(
    server: Server,
    user: Annotated[str, typer.Option("--user", "-u", metavar="NAME", help="Your account.")],
    password_file: PasswordFile = None,
    days: Annotated[
        float | None, typer.Option("--days", help="Days until it ends; without it the most allowed.")
    ] = None,
    file: File = None,
    docker: Docker = False,
    insecure: Insecure = False,
) -> None:
    """Sign in to a server, and keep an access token instead of the password.

    The password, or an access token, is asked for, or read from standard input or a file.
    """
    from auth.tokens.secrets_text import is_access_token

    base, logins = _base(server, insecure=insecure), _open(file, docker=docker)
    password = read_password(password_file, new=False)
    expires = None if days is None else time.time() + days * 86400
    if is_access_token(password):
        run_async(_check(base, password))
        token = password
    else:
        token = run_async(_make_token(base, user, password, expires))
    logins.keep(_host(base), user, token)
    echo(f"signed in to {_host(base)}; the token is in {logins.path}")
    if docker and logins.helper is not None:
        echo(f"docker asks {logins.helper} for logins, so it will not find this one", err=True)


@reports_errors
def logout(server: Server, file: File = None, docker: Docker = False, insecure: Insecure = False) -> None:
    """Revoke the access token of a login, and forget it."""
    base, logins = _base(server, insecure=insecure), _open(file, docker=docker)
    token = logins.find_secret(_host(base))
    if token is None:
        raise UsageError(f"there is no login for {_host(base)} in {logins.path}")
    try:
        run_async(_revoke(base, token))
    finally:
        # it is gone from here, whatever the server says
        logins.forget(_host(base))
    echo(f"signed out of {_host(base)}")


def _open(file: Path | None, *, docker: bool) -> LoginFile:
    from registry.cli.logins import LoginFile, docker_file, own_file

    if file is not None and docker:
        raise UsageError("--file and --docker contradict each other")
    return LoginFile(file or (docker_file() if docker else own_file()))


def _base(server: str, *, insecure: bool) -> URL:
    """The server's address; a password goes over no network unencrypted. Raises UsageError."""
    try:
        given = URL(server if "://" in server else f"//{server}")
        here = given.host in THIS_MACHINE
        scheme = given.scheme or ("http" if here else "https")
        # as docker does, a name without a scheme that is this machine's is spoken to without TLS
        origin = URL.build(scheme=scheme, host=given.host or "", port=given.explicit_port)
    except ValueError:
        raise UsageError(f"{server} is no server such as registry.example.org or localhost:5000") from None
    if not given.host or scheme not in ("http", "https") or given.path not in ("", "/") or given.user:
        raise UsageError(f"{server} is no server such as registry.example.org or localhost:5000")
    if scheme == "http" and not (here or insecure):
        raise UsageError(f"{server} would get the password unencrypted; if that has to be, add --insecure")
    return origin


def _host(base: URL) -> str:
    """As names of images have it."""
    return base.authority


async def _make_token(base: URL, user: str, password: str, expires: float | None) -> str:
    from aiohttp import encode_basic_auth

    document: dict[str, Any] = {"name": f"condery login at {socket.gethostname()}"}
    if expires is not None:
        document["expires"] = expires
    headers = {"Authorization": encode_basic_auth(user, password, "utf-8")}
    answer = await _send("POST", base / "api/v1/token/", headers, document)
    token = answer.get("data", {}).get("token") if isinstance(answer.get("data"), dict) else None
    if not isinstance(token, str):
        raise LoginFailed(f"{base} gave no token, so it is no condery")
    return token


async def _check(base: URL, token: str) -> None:
    await _send("GET", base / "api/v1/token/", {"Authorization": f"Bearer {token}"})


async def _revoke(base: URL, token: str) -> None:
    await _send("DELETE", base / "api/v1/token/current/", {"Authorization": f"Bearer {token}"})


async def _send(method: str, url: URL, headers: dict[str, str], document: object = None) -> dict[str, Any]:
    """The document in the answer. Raises LoginFailed."""
    import aiohttp

    from storage import strict_json
    from storage.errors import JsonInvalid

    try:
        # credentials follow no redirect: they are for this server
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(SECONDS), trust_env=True) as session,
            session.request(method, url, headers=headers, json=document, allow_redirects=False) as answer,
        ):
            status, body = answer.status, b""
            async for piece in answer.content.iter_any():
                body += piece
                if len(body) > LARGEST:
                    raise LoginFailed(f"{url.origin()} answers with more than {LARGEST} bytes, so it is no condery")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise LoginFailed(f"{url.origin()} does not answer: {error or type(error).__name__}") from None
    try:
        found = strict_json.parse(body)
    except JsonInvalid:
        found = None
    if status != 200:
        said = found.get("message") if isinstance(found, dict) else None
        raise LoginFailed(f"{url.origin()} says {status}: {said or 'it is no condery, or redirects'}")
    return found if isinstance(found, dict) else {}
