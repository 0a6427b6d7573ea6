"""Browsers that are signed in, for all requests of one process."""

from __future__ import annotations

import math
import time
from dataclasses import replace

from aiohttp import web

from auth.changing import AccessData
from auth.principal import Principal
from auth.remembered import RememberedAnswers
from auth.sign_in.renewal import Renewals
from auth.sign_in.sessions import SESSION_ENDED, SESSION_MADE, BrowserSession, BrowserSessions
from auth.tokens.credential import Credential, Recognition
from auth.tokens.errors import CredentialsInvalid
from auth.tokens.secrets_text import hash_of
from registry.access.browser.cookie import Cookie
from registry.access.browser.form import forget_token
from registry.access.site import is_own_visit, is_program
from registry.observer import PRINCIPAL
from registry.parts import PROXIES
from registry.peers.networks import client_of
from registry.trail import note

MOST_REMEMBERED = 4096
REMEMBER_SECONDS = 60.0

_COOKIE = Cookie("session")
_CLIENTS_COOKIE = Cookie("session", plain="conda-store-auth")
"""Where programs for conda-store look for their session. It is read of programs alone: browsers have the other cookie,
which no other host can set."""


class SignedInBrowsers:
    """Finds the principals of browsers, and signs them in and out."""

    def __init__(
        self, sessions: BrowserSessions, recognition: Recognition, data: AccessData, renewals: Renewals | None
    ) -> None:
        """`renewals` is for sessions from a provider."""
        self._sessions = sessions
        self._recognition = recognition
        self._data = data
        self._renewals = renewals
        self._known: RememberedAnswers[str, Principal] = RememberedAnswers(data, MOST_REMEMBERED)

    def names_somebody(self, request: web.Request) -> bool:
        """Whether whom it comes from has to be looked up."""
        # most requests have none, and each would feel it
        return "Cookie" in request.headers and (_COOKIE.may_be_in(request) or _CLIENTS_COOKIE.may_be_in(request))

    async def identify(self, request: web.Request) -> Principal | None:
        """Whose browser it is; None for one that is not signed in, or not any more."""
        text = _read(request)
        if text is None or not is_own_visit(request):
            return None
        key = hash_of(text)
        if (known := self._known.find(key)) is not None:
            return known
        stamp = self._data.stamp
        try:
            session = await self._find(request, text)
            recognised = await self._recognition.recognise(session.credential)
        except CredentialsInvalid:
            # it is signed in no more, and may sign in again
            self._known.forget(key)
            return None
        seconds = min(REMEMBER_SECONDS, recognised.until - time.time(), self._due_at(session) - time.time())
        self._known.keep(key, recognised.principal, stamp, seconds)
        return recognised.principal

    async def sign_in(
        self,
        request: web.Request,
        response: web.StreamResponse,
        credential: Credential,
        *,
        issuer: str = "",
        refresh: str = "",
        for_program: bool = False,
    ) -> None:
        """Give the browser, or a program, a session of its own, whatever it had before. Raises CredentialsInvalid."""
        # an account may be disabled
        principal = (await self._recognition.recognise(credential)).principal
        await self._end(request, principal)
        text = await self._sessions.make(credential, issuer, refresh)
        _COOKIE.write(request, response, text, self._sessions.seconds)
        if for_program:
            _CLIENTS_COOKIE.write(request, response, text, self._sessions.seconds)
        forget_token(request, response)
        note(request, principal, SESSION_MADE, principal.name, issuer=issuer)

    async def sign_out(self, request: web.Request, response: web.StreamResponse) -> None:
        await self._end(request, request[PRINCIPAL])
        _COOKIE.write(request, response, "", 0)
        if _CLIENTS_COOKIE.may_be_in(request):
            _CLIENTS_COOKIE.write(request, response, "", 0)
        forget_token(request, response)

    async def _end(self, request: web.Request, by: Principal) -> None:
        """End the session that the browser shows, if it is one that holds: anybody can make one up."""
        text = _read(request)
        if text is None:
            return
        try:
            credential = (await self._sessions.find(text)).credential
            owner = (await self._recognition.recognise(credential)).principal
        except CredentialsInvalid:
            return
        await self._sessions.end(text)
        note(request, by, SESSION_ENDED, owner.name)

    async def _find(self, request: web.Request, text: str) -> BrowserSession:
        """The session, by its provider's latest word. Raises CredentialsInvalid."""
        session = await self._sessions.find(text)
        if self._renewals is None or self._due_at(session) > time.time():
            return session
        # an account that is disabled here is none that the provider is asked about
        owner = (await self._recognition.recognise(replace(session.credential, expires=session.ends))).principal
        await self._renewals.renew(text, session, owner, client_of(request.app[PROXIES].client(request)))
        return await self._sessions.find(text)

    def _due_at(self, session: BrowserSession) -> float:
        return self._renewals.due_at(session) if self._renewals is not None else math.inf


def _read(request: web.Request) -> str | None:
    """The text of the session that the request shows."""
    text = _COOKIE.read(request)
    if text is None and _CLIENTS_COOKIE.may_be_in(request) and is_program(request):
        return _CLIENTS_COOKIE.read(request)
    return text
