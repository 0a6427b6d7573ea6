"""People whom a proxy has signed in, and names in a header of its own.

Anybody can send such a header, so it is read from the trusted proxies alone, from those that are connected to this very
server. A browser sends a request of another site's page through the same proxy, in its user's name. So what such a page
asks for is nobody's, unless the person goes to an address of this server themselves.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from aiohttp import web

from auth.changing import AccessData
from auth.principal import Principal
from auth.remembered import RememberedAnswers
from auth.sign_in.errors import SignInRefused
from auth.sign_in.identities import PROXY, Identities, Identity
from auth.sign_in.settings import SignInSettings
from auth.tokens.credential import Recognition
from registry.access.site import is_own_visit
from registry.parts import PROXIES
from registry.peers.networks import client_of
from storage.text import SPACES

MOST_REMEMBERED = 4096
"""Users of about 1 KB each."""
REMEMBER_SECONDS = 60.0


@dataclass(frozen=True)
class ProxyHeaders:
    """The names of the headers; `groups` is empty if the proxy does not say them."""

    user: str
    groups: str = ""

    @classmethod
    def of(cls, settings: SignInSettings) -> ProxyHeaders | None:
        """None if no proxy signs people in."""
        user = settings.proxy_user_header
        return cls(user, settings.proxy_groups_header or "") if user is not None else None

    def read(self, request: web.Request) -> Identity | None:
        """Whom a trusted proxy names. Raises SignInRefused."""
        if not request.app[PROXIES].is_from_proxy(request) or not is_own_visit(request):
            return None
        users = request.headers.getall(self.user, ())
        if len(users) > 1:
            # one of them may be the client's own
            raise SignInRefused(f"the proxy sends {len(users)} headers {self.user}; it has to remove its client's")
        name = users[0].strip(SPACES) if users else ""
        if not name:
            return None
        groups = None
        if self.groups:
            texts = ",".join(request.headers.getall(self.groups, ())).split(",")
            groups = frozenset(text.strip(SPACES) for text in texts) - {""}
        return Identity(PROXY, name, name, groups)


class ProxySignIns:
    """Finds the principals of people whom a proxy names, for all requests of one process."""

    def __init__(
        self, headers: ProxyHeaders, identities: Identities, recognition: Recognition, data: AccessData
    ) -> None:
        self._headers = headers
        self._identities = identities
        self._recognition = recognition
        self._data = data
        # who it is, or why nobody; no exception, whose traceback would grow each time it is raised
        self._known: RememberedAnswers[Identity, Principal | str] = RememberedAnswers(data, MOST_REMEMBERED)

    def names_somebody(self, request: web.Request) -> bool:
        """Whether whom it comes from has to be looked up."""
        return self._headers.user in request.headers

    async def identify(self, request: web.Request) -> Principal | None:
        """The person whom a proxy names; None if it names none. Raises SignInRefused, CredentialsInvalid."""
        found = self._headers.read(request)
        if found is None:
            return None
        answer = self._known.find(found)
        if answer is None:
            answer = await self._find(found, client_of(request.app[PROXIES].client(request)))
        if isinstance(answer, str):
            raise SignInRefused(answer)
        return answer

    async def _find(self, found: Identity, client: str) -> Principal | str:
        """Raises CredentialsInvalid for an account that is disabled."""
        stamp, seconds = self._data.stamp, REMEMBER_SECONDS
        answer: Principal | str
        try:
            credential = await self._identities.sign_in(found, client=client)
        except SignInRefused as error:
            answer = str(error)
        else:
            recognised = await self._recognition.recognise(credential)
            answer, seconds = recognised.principal, min(seconds, recognised.until - time.time())
        self._known.keep(found, answer, stamp, seconds)
        return answer
