"""Signing in by a browser, on whatever machine it is (RFC 8628)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from auth.accounts.names import LOGIN_NAME
from registry.cli.asking import LoginFailed, NoAnswer, check_done, send
from registry.cli.display import echo
from storage.text import printable

if TYPE_CHECKING:
    from yarl import URL

CLIENT = "condery"
GRANT = "urn:ietf:params:oauth:grant-type:device_code"
SLOWER_SECONDS = 5
"""What is added to the time between two questions when the server says so, or does not answer."""
LONGEST_INTERVAL = 60
LONGEST_WAIT = 3600
"""Seconds, whatever the server says."""


class Signed(NamedTuple):
    """Who has signed in, and their access token."""

    name: str
    token: str

    def __repr__(self) -> str:
        return f"Signed({self.name!r})"


async def sign_in(base: URL, days: float | None) -> Signed:
    """Say where to go, and wait until somebody has allowed it there. Raises LoginFailed."""
    url = base / "device" / "code"
    form = {"client_id": CLIENT, "device": f"{LOGIN_NAME}{socket.gethostname()}"[:100]}
    if days is not None:
        form["lifetime"] = str(round(days * 86400))
    status, begun = await send("POST", url, {}, form=form)
    if status == 404:
        raise LoginFailed(f"{base} cannot sign you in by a browser; give your account with --user NAME")
    check_done(url, status, begun)
    echo(f"go to   {printable(_text(base, begun, 'verification_uri'))}", err=True)
    echo(f"and type the code   {printable(_text(base, begun, 'user_code'))}", err=True)
    interval = _seconds(begun, "interval", SLOWER_SECONDS, LONGEST_INTERVAL)
    try:
        async with asyncio.timeout(_seconds(begun, "expires_in", LONGEST_WAIT, LONGEST_WAIT)):
            return await _wait(base, _text(base, begun, "device_code"), interval)
    except TimeoutError:
        raise LoginFailed("nobody has allowed it in time; begin again") from None


async def _wait(base: URL, device_code: str, interval: float) -> Signed:
    url = base / "token"
    form = {"grant_type": GRANT, "device_code": device_code, "client_id": CLIENT}
    while True:
        await asyncio.sleep(interval)
        try:
            status, document = await send("POST", url, {}, form=form)
        except NoAnswer:
            interval = min(interval + SLOWER_SECONDS, LONGEST_INTERVAL)
            continue
        match document.get("error") if status != 200 else None:
            case "authorization_pending":
                continue
            case "slow_down" | "temporarily_unavailable":
                interval = min(interval + SLOWER_SECONDS, LONGEST_INTERVAL)
                continue
            case "access_denied":
                raise LoginFailed("it was denied in the browser")
            case "expired_token":
                raise LoginFailed("nobody has allowed it in time; begin again")
        check_done(url, status, document)
        return Signed(_text(base, document, "account"), _text(base, document, "access_token"))


def _text(base: URL, document: Mapping[str, Any], name: str) -> str:
    found = document.get(name)
    if not isinstance(found, str) or not found:
        raise LoginFailed(f"{base} gave no {name}, so it is no condery")
    return found


def _seconds(document: Mapping[str, Any], name: str, usual: float, most: float) -> float:
    found = document.get(name)
    usable = isinstance(found, int | float) and not isinstance(found, bool) and found > 0
    return min(float(found), most) if usable and found is not None else usual
