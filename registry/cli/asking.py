"""Requests of commands to a server."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from registry.errors import RequestError

if TYPE_CHECKING:
    from yarl import URL

SECONDS = 30
LARGEST = 1 << 20


class LoginFailed(RequestError):
    """The server did not accept the login, or is no condery."""


class NoAnswer(LoginFailed):
    """The server cannot be reached now."""


async def send(
    method: str,
    url: URL,
    headers: Mapping[str, str],
    *,
    json: object = None,
    form: Mapping[str, str] | None = None,
    largest: int = LARGEST,
) -> tuple[int, Mapping[str, Any]]:
    """The status, and the document in the answer, empty for what is no object. Raises LoginFailed, NoAnswer.

    The texts of a refusal, which are shown, do not repeat what was sent.
    """
    import aiohttp

    from storage import strict_json
    from storage.errors import JsonInvalid
    from storage.network.this_machine import is_this_machine

    timeout = aiohttp.ClientTimeout(SECONDS)
    # a proxy would get what goes unencrypted to this machine, and may understand another machine by localhost
    proxied = not is_this_machine(url.host or "")
    try:
        # credentials follow no redirect: they are for this server
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=proxied) as session,
            session.request(method, url, headers=headers, json=json, data=form, allow_redirects=False) as answer,
        ):
            status, body = answer.status, b""
            async for piece in answer.content.iter_any():
                body += piece
                if len(body) > largest:
                    raise LoginFailed(f"{url.origin()} answers with more than {largest} bytes, so it is no condery")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise NoAnswer(f"{url.origin()} does not answer: {error or type(error).__name__}") from None
    try:
        found = strict_json.parse(body)
    except JsonInvalid:
        found = None
    document = found if isinstance(found, dict) else {}
    return status, document if status == 200 else _without_secrets(document, headers, form or {})


def _without_secrets(
    document: Mapping[str, Any], headers: Mapping[str, str], form: Mapping[str, str]
) -> Mapping[str, Any]:
    from storage.text import Sent, hide

    scheme, _, credentials = headers.get("Authorization", "").partition(" ")
    sent = [Sent(credentials), Sent(form.get("device_code", ""))]
    if scheme == "Basic":
        user, _, password = base64.b64decode(credentials).decode().partition(":")
        sent.append(Sent(password, user))
    return {name: hide(each, sent) if isinstance(each, str) else each for name, each in document.items()}


def check_done(url: URL, status: int, document: Mapping[str, Any]) -> None:
    """Raises LoginFailed for anything but success."""
    if status != 200:
        said = document.get("message") or document.get("error_description")
        told = said if isinstance(said, str) else "it is no condery, or redirects"
        raise LoginFailed(f"{url.origin()} says {status}: {told}")
