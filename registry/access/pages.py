"""GET /login, GET /login/callback and POST /logout: people sign in with their browser at a provider.

The cookies are for this host alone, over https alone, hidden from scripts, and not sent with requests of other sites'
pages, except when a person follows a link.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aiohttp import web
from cachetools import LRUCache

from auth.changing import AccessData
from auth.principal import Principal
from auth.sign_in.errors import SignInFailed
from auth.sign_in.identities import Identities
from auth.sign_in.pending import SECONDS, PendingSignIns
from auth.sign_in.provider import Provider, make_secrets
from auth.sign_in.sessions import LONGEST, BrowserSessions
from auth.tokens.credential import Recognition
from auth.tokens.errors import CredentialsInvalid
from auth.tokens.secrets_text import hash_of
from registry import parts
from registry.access.proxied import is_own_visit
from registry.errors import RouteUnknown
from registry.parts import PARTS, PROXIES
from registry.peers.networks import client_of
from registry.trail import SIGN_IN, note

MOST_REMEMBERED = 4096
REMEMBER_SECONDS = 60.0

_LOCAL = re.compile(r"/(?:[!-.0-\[\]-~][!-\[\]-~]{0,2046})?")
"""A path here: it begins with one slash, and has no backslash, which browsers take for one."""
_HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True)
class Cookie:
    """A cookie of ours, over https or, where there is none, over http."""

    purpose: str
    secure: bool

    @property
    def name(self) -> str:
        return f"__Host-condery-{self.purpose}" if self.secure else f"condery-{self.purpose}"

    def read(self, request: web.Request) -> str | None:
        """Its value; None if there is none, it cannot be ours, or there are several, of which another page may have
        set one."""
        found = []
        for line in request.headers.getall("Cookie", ()):
            pairs = (each.strip().partition("=") for each in line.split(";"))
            found += [value for name, _, value in pairs if name == self.name]
        if len(found) != 1 or len(found[0]) > LONGEST or not found[0].isascii():
            return None
        return found[0]

    def write(self, response: web.StreamResponse, value: str, seconds: float) -> None:
        """Set it, or with 0 seconds delete it."""
        secure = "; Secure" if self.secure else ""
        written = f"{self.name}={value}; Path=/; Max-Age={seconds:.0f}; HttpOnly; SameSite=Lax{secure}"
        response.headers.add("Set-Cookie", written)


class BrowserSignIns:
    """Signs browsers in at `provider`, and finds the principals of those that are, for all requests of one process."""

    def __init__(
        self,
        provider: Provider,
        pending: PendingSignIns,
        sessions: BrowserSessions,
        identities: Identities,
        recognition: Recognition,
        data: AccessData,
        *,
        secure: bool,
    ) -> None:
        self._provider = provider
        self._pending = pending
        self._sessions = sessions
        self._identities = identities
        self._recognition = recognition
        self._data = data
        self._session = Cookie("session", secure)
        self._state = Cookie("login", secure)
        self._known: LRUCache[str, tuple[int, float, Principal]] = LRUCache(MOST_REMEMBERED)

    def names_somebody(self, request: web.Request) -> bool:
        """Whether whom it comes from has to be looked up."""
        return any(self._session.name in line for line in request.headers.getall("Cookie", ()))

    async def identify(self, request: web.Request) -> Principal | None:
        """Whose browser it is; None for one that is not signed in, or not any more."""
        text = self._session.read(request)
        if text is None or not is_own_visit(request):
            return None
        key, stamp, now = hash_of(text), self._data.stamp, time.monotonic()
        known = self._known.get(key)
        if known is not None and known[0] == stamp and known[1] > now:
            return known[2]
        try:
            recognised = await self._recognition.recognise(await self._sessions.find(text))
        except CredentialsInvalid:
            # it is signed in no more, and may sign in again
            self._known.pop(key, None)
            return None
        until = min(REMEMBER_SECONDS, recognised.until - time.time())
        self._known[key] = stamp, now + until, recognised.principal
        return recognised.principal

    async def begin(self, next_page: str) -> web.Response:
        """Send a browser to the provider. Raises SignInFailed."""
        secrets = make_secrets()
        state = await self._pending.begin({**secrets, "next": next_page})
        response = redirect(await self._provider.begin(state, secrets))
        self._state.write(response, state, SECONDS)
        return response

    async def finish(self, request: web.Request) -> web.Response:
        """Sign the browser in that comes back. Raises SignInFailed, SignInRefused."""
        fields = read_fields(request.query.items())
        state, expected = fields.get("state", ""), self._state.read(request) or ""
        if not state or not state.isascii() or not hmac.compare_digest(state, expected):
            raise SignInFailed("this sign-in did not begin in this browser; begin again at /login")
        kept = await self._pending.take(state)
        if kept is None:
            raise SignInFailed("this sign-in took too long, or was finished before; begin again at /login")
        if fields.get("iss", self._provider.issuer) != self._provider.issuer:
            raise SignInFailed("another provider has answered; begin again at /login")
        if "error" in fields:
            raise SignInFailed(f"the provider refuses: {fields['error'][:100]!r}; begin again at /login")
        found = await self._provider.finish(fields.get("code", ""), kept)
        client = client_of(request.app[PROXIES].client(request))
        credential = await self._identities.sign_in(found, client=client)
        # raises CredentialsInvalid for an account that is disabled
        principal = (await self._recognition.recognise(credential)).principal
        note(request, principal, SIGN_IN, principal.name, issuer=found.issuer)
        response = redirect(kept["next"])
        self._session.write(response, await self._sessions.make(credential, found.issuer), self._sessions.seconds)
        self._state.write(response, "", 0)
        return response

    async def sign_out(self, request: web.Request) -> web.Response:
        text = self._session.read(request)
        if text is not None:
            await self._sessions.end(text)
        response = redirect("/")
        self._session.write(response, "", 0)
        return response


async def begin_login(request: web.Request) -> web.StreamResponse:
    return await _find(request).begin(local_page(request.query.get("next", "/")))


async def finish_login(request: web.Request) -> web.StreamResponse:
    try:
        return await _find(request).finish(request)
    except CredentialsInvalid as error:
        raise SignInFailed(f"this account cannot sign in: {error.reason}") from None


async def logout(request: web.Request) -> web.StreamResponse:
    return await _find(request).sign_out(request)


def local_page(text: str) -> str:
    """The page to go on to; the first one for anything that may lead elsewhere."""
    return text if _LOCAL.fullmatch(text) else "/"


def read_fields(pairs: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """The fields of a query. Raises SignInFailed for one that is there twice."""
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name in fields:
            raise SignInFailed("the answer of the provider has a field twice; begin again at /login")
        fields[name] = value
    return fields


def redirect(url: str) -> web.Response:
    return web.Response(status=303, headers={"Location": url, **_HEADERS})


def _find(request: web.Request) -> parts.BrowserSignIns:
    """Raises RouteUnknown where no provider is set."""
    found = request.app[PARTS].browsers
    if found is None:
        raise RouteUnknown(request.rel_url.raw_path)
    return found
