"""POST /device/code, and GET and POST /device: a program without a browser signs in by a person's (RFC 8628).

Whoever can make a person type a code, and allow it, gets an access token of theirs. So the page says what wants to sign
in, by its own word, and from which address, and asks the person whether they have just begun that themselves.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from html import escape
from urllib.parse import urlencode

import orjson
from aiohttp import web

from auth.audit.event import Outcome
from auth.principal import Principal
from auth.sign_in.device import INTERVAL, DeviceRequest, DeviceSignIns, read_code, show_code
from auth.sign_in.pending import SECONDS
from auth.tokens.credential import Credential
from registry.access.browser import form
from registry.access.browser.login import LOGIN
from registry.access.browser.page import field, page, problem, redirect
from registry.access.browser.page import form as form_of
from registry.access.oauth_form import read_form, read_one
from registry.access.per_minute import PerMinute
from registry.access.site import check_site
from registry.answers import UNSTORED_JSON
from registry.errors import Denied, TokenRequestInvalid
from registry.observer import PRINCIPAL
from registry.parts import PARTS, PROXIES
from registry.peers.networks import client_of
from registry.trail import note

PAGE = "/device"
LONGEST_NAME = 100
MOST_GUESSES = 10
"""User codes that one person, and one address, may try in a minute: more than anybody types, and in the ten minutes of
a code far too few for its 34 bits."""
ALLOW, DENY = "allow", "deny"

_NUMBER = re.compile(r"[0-9]{1,9}")


class DevicePages:
    """For all requests of one process."""

    def __init__(self, devices: DeviceSignIns) -> None:
        self._devices = devices
        self._guesses = PerMinute(MOST_GUESSES)

    async def begin(self, request: web.Request) -> web.Response:
        """Give a device its codes. Raises TokenRequestInvalid, AccessTokenInvalid, Denied."""
        sent = await read_form(request)
        fields = {name: read_one(sent, name) for name in sent}
        check_site(request)
        base = request.app[PROXIES].base_url(request)
        if base is None:
            raise TokenRequestInvalid("the header Host names no host, so there is no address for people to go to")
        if not fields.get("client_id"):
            raise TokenRequestInvalid("client_id is missing: say which program asks")
        address = request.app[PROXIES].client(request)
        lifetime = _read_lifetime(fields)
        if lifetime is not None:
            request.app[PARTS].tokens.access.check_lifetime(lifetime)
        device = DeviceRequest(_read_name(fields), address, time.time(), lifetime)
        codes = await self._devices.begin(device, client_of(address))
        document = {
            "device_code": codes.device_code,
            "user_code": codes.user_code,
            "verification_uri": f"{base}{PAGE}",
            "verification_uri_complete": f"{base}{PAGE}?{urlencode({'user_code': codes.user_code})}",
            "expires_in": int(SECONDS),
            "interval": INTERVAL,
        }
        return web.Response(body=orjson.dumps(document), headers=UNSTORED_JSON)

    async def show(self, request: web.Request) -> web.Response:
        """Ask for the code that the device shows; a link may have it, which still has to be looked at."""
        code = read_code(request.query.get("user_code", ""))
        if request[PRINCIPAL].kind == "anonymous":
            here = f"{PAGE}?{urlencode({'user_code': code})}" if code else PAGE
            return redirect(f"{LOGIN}?{urlencode({'next': here})}")
        _check_person(request[PRINCIPAL])
        return _ask_code(request, code)

    async def answer(self, request: web.Request) -> web.Response:
        """Raises SignInFailed, Denied, TooManyRequests."""
        principal = request[PRINCIPAL]
        _check_person(principal)
        fields = await form.read_form(request, ("user_code", "answer"))
        typed, answer = fields.get("user_code", ""), fields.get("answer", "")
        code = read_code(typed)
        for asker in (principal.name, client_of(request.app[PROXIES].client(request))):
            self._guesses.take(asker)
        if answer not in (ALLOW, DENY):
            device = await self._devices.find(code) if code else None
            return _ask_answer(request, code, device) if device is not None else _ask_code(request, "", typed=typed)
        credential = Credential.of(principal) if answer == ALLOW else None
        device = await self._devices.decide(code, credential) if code else None
        if device is None:
            return _ask_code(request, "", typed=typed)
        outcome: Outcome = "allowed" if answer == ALLOW else "denied"
        told = {"name": device.name, "address": device.client}
        note(request, principal, "device.sign-in", principal.name, outcome=outcome, **told)
        if answer == ALLOW:
            return page("Allowed", "<p>The program goes on by itself in a few seconds. You can close this page.</p>")
        return page("Denied", "<p>The program gets nothing. You can close this page.</p>")


def _check_person(principal: Principal) -> None:
    """Raises Denied for who may not give away everything that their account may do."""
    if principal.kind != "person" or principal.token or principal.limits or principal.scopes is not None:
        raise Denied("only a person who is signed in with a browser can sign a device in")


def _ask_code(request: web.Request, code: str, *, typed: str = "") -> web.Response:
    said = "No device waits for this code, or not any more. Look at it again, or begin again there." if typed else ""
    value = f'value="{show_code(code)}" ' if code else ""
    fields = field("Code", "user_code", f'{value}autocomplete="off" autocapitalize="characters" required autofocus')
    title = "Sign in a device"
    token = form.token_of(request)
    body = f"<p>Type the code that the program shows, which you have just started.</p>{problem(said)}"
    body += form_of(PAGE, {form.FIELD: token}, fields + "<button>Go on</button>")
    response = page(title, body, status=404 if typed else 200)
    form.keep_token(request, response, token)
    return response


def _ask_answer(request: web.Request, code: str, device: DeviceRequest) -> web.Response:
    name = escape(device.name) if device.name else "a program that gives no name"
    address = escape(device.client) or "of this machine"
    seconds = max(0, round(time.time() - device.began))
    body = (
        f"<p><b>{name}</b> wants to sign in as <b>{escape(request[PRINCIPAL].name)}</b>. "
        f"That is what it calls itself. It began {seconds} seconds ago, from the address {address}.</p>"
        f"<p>Does your program show the code <b>{show_code(code)}</b>, and have you started it yourself? If somebody "
        "has sent you this code, or a link with it, deny: they could do all that you may do here.</p>"
    )
    token = form.token_of(request)
    buttons = "".join(
        f'<button name="answer" value="{value}">{text}</button>' for value, text in ((DENY, "Deny"), (ALLOW, "Allow"))
    )
    body += form_of(PAGE, {form.FIELD: token, "user_code": code}, buttons)
    response = page("Sign in a device", body)
    form.keep_token(request, response, token)
    return response


def _read_name(fields: Mapping[str, str]) -> str:
    """Of the device, as it is shown. Raises TokenRequestInvalid."""
    name = fields.get("device", "").strip()
    if len(name) > LONGEST_NAME or not name.isprintable():
        raise TokenRequestInvalid(f"device: expected at most {LONGEST_NAME} printable characters")
    return name


def _read_lifetime(fields: Mapping[str, str]) -> float | None:
    """Seconds. Raises TokenRequestInvalid."""
    text = fields.get("lifetime", "")
    if not text:
        return None
    if not _NUMBER.fullmatch(text) or int(text) < 1:
        raise TokenRequestInvalid("lifetime: expected a whole number of seconds from 1")
    return float(text)
