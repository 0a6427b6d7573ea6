"""GET /login/provider and GET /login/callback: people sign in at a provider, which sends them back."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping

from aiohttp import web

from auth.sign_in.errors import SignInFailed
from auth.sign_in.identities import Identities
from auth.sign_in.pending import SECONDS, PendingSignIns
from auth.sign_in.provider import Provider, make_secrets
from auth.tokens.errors import CredentialsInvalid
from registry.access.browser.cookie import Cookie
from registry.access.browser.form import next_page
from registry.access.browser.page import redirect
from registry.access.browser.sessions import SignedInBrowsers
from registry.parts import PROXIES
from registry.peers.networks import client_of

_COOKIE = Cookie("login")


class ProviderSignIns:
    """Signs browsers in at `provider`, for all requests of one process."""

    def __init__(
        self, provider: Provider, pending: PendingSignIns, browsers: SignedInBrowsers, identities: Identities
    ) -> None:
        self._provider = provider
        self._pending = pending
        self._browsers = browsers
        self._identities = identities

    async def begin(self, request: web.Request) -> web.Response:
        """Send a browser to the provider. Raises SignInFailed."""
        secrets = make_secrets()
        page = next_page(request, request.query.get("next", "/"))
        client = client_of(request.app[PROXIES].client(request))
        state = await self._pending.begin({**secrets, "next": page, "issuer": self._provider.issuer}, client)
        response = redirect(await self._provider.begin(state, secrets))
        _COOKIE.write(request, response, state, SECONDS)
        return response

    async def finish(self, request: web.Request) -> web.Response:
        """Sign the browser in that comes back. Raises SignInFailed, SignInRefused."""
        fields = _read_fields(request.query.items())
        kept = await self._take(request, fields)
        if kept["issuer"] != self._provider.issuer:
            raise SignInFailed("the server has another provider since this sign-in began; begin again at /login")
        await self._provider.check_issuer(fields.get("iss"))
        if "error" in fields:
            raise SignInFailed(f"the provider refuses: {fields['error'][:100]!r}; begin again at /login")
        found = await self._provider.finish(fields.get("code", ""), kept)
        client = client_of(request.app[PROXIES].client(request))
        credential = await self._identities.sign_in(found.identity, client=client)
        response = redirect(kept["next"])
        try:
            await self._browsers.sign_in(
                request, response, credential, issuer=found.identity.issuer, refresh=found.refresh
            )
        except CredentialsInvalid as error:
            raise SignInFailed(f"this account cannot sign in: {error.reason}") from None
        _COOKIE.write(request, response, "", 0)
        return response

    async def _take(self, request: web.Request, fields: Mapping[str, str]) -> Mapping[str, str]:
        """What was kept of a sign-in that began in this browser. Raises SignInFailed."""
        state, expected = fields.get("state", ""), _COOKIE.read(request) or ""
        if not state or not state.isascii() or not hmac.compare_digest(state, expected):
            raise SignInFailed("this sign-in did not begin in this browser; begin again at /login")
        kept = await self._pending.take(state)
        if kept is None:
            raise SignInFailed("this sign-in took too long, or was finished before; begin again at /login")
        return kept


def _read_fields(pairs: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """The fields of a query. Raises SignInFailed for one that is there twice."""
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name in fields:
            raise SignInFailed("the answer of the provider has a field twice; begin again at /login")
        fields[name] = value
    return fields
