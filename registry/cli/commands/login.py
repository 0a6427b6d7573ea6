"""`condery login` and `condery logout`."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from yarl import URL

from auth.accounts.names import LOGIN_NAME
from registry.cli.asking import LoginFailed, check_done, send
from registry.cli.commands.accounts.opening import PasswordFile, read_password
from registry.cli.display import echo
from registry.cli.options import UsageError, reports_errors, run_async
from registry.cli.origin import read_origin

if TYPE_CHECKING:
    from registry.cli.logins import LoginFile

TOKENS = "api/v1/token/"
MOST_DAYS = 36500

Server = Annotated[str, typer.Argument(metavar="SERVER", help="The server's host and port, as in names of images.")]
File = Annotated[
    Path | None, typer.Option("--file", metavar="PATH", help="File of logins; without it ~/.config/condery/auth.json.")
]
Docker = Annotated[bool, typer.Option("--docker", help="Use the file ~/.docker/config.json.")]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Speak to another machine by http:// without encryption, if SERVER says so.")
]


@reports_errors
def login(
    server: Server,
    user: Annotated[
        str | None,
        typer.Option("--user", "-u", metavar="NAME", help="Your account; without it you sign in with a browser."),
    ] = None,
    password_file: PasswordFile = None,
    days: Annotated[
        float | None, typer.Option("--days", help="Days until it ends; without it the most allowed.")
    ] = None,
    file: File = None,
    docker: Docker = False,
    insecure: Insecure = False,
) -> None:
    """Sign in to a server, and keep an access token of yours.

    With --user the password, or an access token, is asked for, or read from standard input or a file. Without it the
    command says an address and a code, and waits until you have typed the code there, in a browser on any machine.
    """
    base, logins = read_origin(server, insecure=insecure), _open(file, docker=docker)
    if days is not None and not 0 < days < MOST_DAYS:
        raise UsageError(f"--days must be more than 0 and less than {MOST_DAYS}")
    if user is None and password_file is not None:
        raise UsageError("--password-file: say whose password it is, with --user")
    if user is not None and ":" in user:
        raise UsageError("--user: no name of an account has a colon")
    logins.check_writable()
    if user is None:
        made = True
        user, token = run_async(_sign_in_by_browser(base, days))
    else:
        made, token = _sign_in(base, user, read_password(password_file, new=False), days)
    _keep(logins, base, user, token, made=made)
    echo(f"signed in to {_host(base)}; the token is in {logins.path}")
    if docker and logins.helper is not None:
        echo(f"docker asks {logins.helper} for logins, so it will not find this one", err=True)


@reports_errors
def logout(server: Server, file: File = None, docker: Docker = False, insecure: Insecure = False) -> None:
    """Revoke the access token of a login, and forget it."""
    base, logins = read_origin(server, insecure=insecure), _open(file, docker=docker)
    token = logins.find_secret(_host(base))
    if token is None:
        raise LoginFailed(f"there is no login for {_host(base)} in {logins.path}")
    try:
        run_async(_revoke(base, token))
    finally:
        # it is gone from here, whatever the server says
        logins.forget(_host(base), token)
    echo(f"signed out of {_host(base)}")


def _keep(logins: LoginFile, base: URL, user: str, token: str, *, made: bool) -> None:
    """Write a token down. One that was `made` for this is revoked if that fails: nobody else knows it."""
    try:
        logins.keep(_host(base), user, token)
    except BaseException as error:
        if made:
            try:
                run_async(_revoke(base, token))
            except LoginFailed as failed:
                name = f"{LOGIN_NAME}{socket.gethostname()}"
                raise LoginFailed(f"{error}; revoke the token {name!r} yourself, since {failed}") from error
        raise


def _sign_in(base: URL, user: str, password: str, days: float | None) -> tuple[bool, str]:
    """An access token, and whether it was made: one that stands for the password is taken itself.

    Raises LoginFailed.
    """
    from auth.tokens.secrets_text import is_access_token

    if is_access_token(password):
        run_async(_check(base, password))
        return False, password
    return True, run_async(_make_token(base, user, password, None if days is None else time.time() + days * 86400))


async def _sign_in_by_browser(base: URL, days: float | None) -> tuple[str, str]:
    """Name and access token. Raises LoginFailed."""
    from auth.tokens.secrets_text import is_access_token
    from registry.cli.device_login import sign_in

    signed = await sign_in(base, days)
    # they go into a file in which a colon separates them
    if ":" in signed.name or not is_access_token(signed.token):
        raise LoginFailed(f"{base} gave no token, so it is no condery")
    return signed.name, signed.token


def _open(file: Path | None, *, docker: bool) -> LoginFile:
    from registry.cli.logins import LoginFile, docker_file, own_file

    if file is not None and docker:
        raise UsageError("--file and --docker contradict each other")
    return LoginFile(file or (docker_file() if docker else own_file()))


def _host(base: URL) -> str:
    """As names of images have it."""
    return base.authority


async def _make_token(base: URL, user: str, password: str, expires: float | None) -> str:
    from aiohttp import encode_basic_auth

    document: dict[str, Any] = {"name": f"{LOGIN_NAME}{socket.gethostname()}"}
    if expires is not None:
        document["expires"] = expires
    headers = {"Authorization": encode_basic_auth(user, password, "utf-8")}
    answer = await _ask("POST", base / TOKENS, headers, document)
    token = answer.get("data", {}).get("token") if isinstance(answer.get("data"), dict) else None
    if not isinstance(token, str):
        raise LoginFailed(f"{base} gave no token, so it is no condery")
    return token


async def _check(base: URL, token: str) -> None:
    await _ask("GET", base / TOKENS, {"Authorization": f"Bearer {token}"})


async def _revoke(base: URL, token: str) -> None:
    await _ask("DELETE", base / TOKENS / "current/", {"Authorization": f"Bearer {token}"})


async def _ask(method: str, url: URL, headers: Mapping[str, str], json: object = None) -> Mapping[str, Any]:
    """The document in the answer. Raises LoginFailed."""
    status, document = await send(method, url, headers, json=json)
    check_done(url, status, document)
    return document
