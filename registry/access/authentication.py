"""From the Authorization header to a principal.

Checking a password takes a tenth of a second and 64 MiB, and a client sends it with every request. So what was checked
is remembered for a short time. What somebody may do is loaded anew as soon as any process has changed anything about
access.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import Sequence
from typing import Protocol

from aiohttp import web

from auth.changing import AccessData
from auth.principal import Principal
from auth.remembered import RememberedAnswer
from auth.tokens.api_tokens import is_api_token
from auth.tokens.credential import ANYBODY, Credential, Recognition
from auth.tokens.errors import CredentialsInvalid
from auth.tokens.secrets_text import is_access_token, may_be_token
from auth.tokens.tokens import Tokens
from registry.access.authorization import Shown, read_authorization
from registry.access.challenge import Challenger
from registry.access.checked import CheckedCredentials
from registry.access.passwords import PasswordSignIns
from registry.access.site import check_wish
from registry.errors import Unauthorized
from registry.parts import PROXIES
from registry.peers.networks import client_of
from storage.errors import ConderyError

BEARER_SECONDS = 300.0
"""Time after which a token is looked up again, so that its use is noted."""


class TokenReader(Protocol):
    """Takes tokens that somebody else has issued, of workloads, beside those of this registry."""

    def knows(self, text: str) -> bool:
        """Whether it is one of these, by its looks."""

    async def read(self, text: str) -> Credential:
        """Raises CredentialsInvalid."""


class AmbientSignIns(Protocol):
    """Knows who is signed in where requests come from: at a proxy, or in a browser."""

    def names_somebody(self, request: web.Request) -> bool:
        """Whether it has to be asked. Must not raise: no handler of errors surrounds it."""

    async def identify(self, request: web.Request) -> Principal | None:
        """Who it is, if anybody. Raises CredentialsInvalid, SignInRefused."""


class Authentication:
    """`registry.parts.Authentication`, for all requests of one process."""

    def __init__(
        self,
        data: AccessData,
        recognition: Recognition,
        sign_ins: PasswordSignIns,
        tokens: Tokens,
        challenger: Challenger,
        readers: Sequence[TokenReader] = (),
        ambient: Sequence[AmbientSignIns] = (),
        *,
        makes_accounts: bool = False,
    ) -> None:
        """`makes_accounts` says whether somebody of `ambient` can sign in without having an account yet."""
        self._data = data
        self._recognition = recognition
        self._sign_ins = sign_ins
        self._tokens = tokens
        self._challenger = challenger
        self._readers = readers
        self._ambient = ambient
        self._makes_accounts = makes_accounts
        self._checked = CheckedCredentials(data)
        self._checking: dict[bytes, asyncio.Task[Principal]] = {}
        self._anybody: RememberedAnswer[Principal] = RememberedAnswer(data)
        self._has_sign_ins: RememberedAnswer[bool] = RememberedAnswer(data)

    @property
    def _lets_others_in(self) -> bool:
        """Whether somebody can sign in without having an account yet."""
        return bool(self._readers) or self._makes_accounts

    def recall(self, request: web.Request) -> Principal | None:
        """Who sent it, if that is known without waiting for anything."""
        if "Authorization" not in request.headers:
            if self._ambient and any(each.names_somebody(request) for each in self._ambient):
                return None
            return self._anybody.find()
        headers = request.headers.getall("Authorization")
        if len(headers) > 1:
            # `identify` refuses it
            return None
        try:
            checked = self._checked.recall(headers[0])
        except CredentialsInvalid:
            return None
        return checked.principal if checked is not None else None

    async def identify(self, request: web.Request) -> Principal:
        """Who sent it. Raises Unauthorized for credentials that do not hold, and what checking passwords raises."""
        headers = request.headers.getall("Authorization", ())
        if not headers:
            return await self._find_ambient(request) or await self._find_anybody()
        if len(headers) > 1:
            raise self.challenge(request, error="invalid_request", message="there are several Authorization headers")
        try:
            return await self._identify(request, read_authorization(headers[0]))
        except CredentialsInvalid as error:
            raise self.challenge(request, error="invalid_token", message=str(error)) from error

    def challenge(self, request: web.Request, scope: str = "", error: str = "", message: str = "") -> Unauthorized:
        return self._challenger.challenge(request, scope, error, message)

    def check_wish(self, request: web.Request, principal: Principal) -> None:
        """Raises Denied for what a page of another site may have asked for in the name of `principal`."""
        if principal.kind != "anonymous":
            check_wish(request)

    async def has_sign_ins(self) -> bool:
        found = self._has_sign_ins.find()
        if found is None:
            stamp = self._data.stamp
            found = self._lets_others_in or await self._sign_ins.has_any()
            self._has_sign_ins.keep(found, stamp)
        return found

    async def recognise(self, credential: Credential) -> Principal:
        """Who has proved it, as they are now. Raises CredentialsInvalid."""
        return (await self._recognition.recognise(credential)).principal

    async def identify_refresh(self, request: web.Request, text: str, service: str) -> Principal:
        """The owner of a refresh token for `service`. Raises Unauthorized."""
        try:
            credential = await self._tokens.refresh.find(text, service)
            return (await self._recognition.recognise(credential)).principal
        except CredentialsInvalid as error:
            raise self.challenge(request, error="invalid_token", message=str(error)) from error

    async def identify_login(self, request: web.Request, name: str, password: str) -> Principal:
        """Whose name and password these are. Raises Unauthorized, and what checking passwords raises."""
        login = base64.b64encode(f"{name}:{password}".encode()).decode()
        try:
            return await self._identify(request, read_authorization(f"Basic {login}"))
        except CredentialsInvalid as error:
            raise self.challenge(request, error="invalid_token", message=str(error)) from error

    async def _find_ambient(self, request: web.Request) -> Principal | None:
        """Who is signed in anyway. Credentials that were sent with the request count before that."""
        try:
            for each in self._ambient:
                if (found := await each.identify(request)) is not None:
                    return found
            return None
        except CredentialsInvalid as error:
            raise self.challenge(request, error="invalid_token", message=str(error)) from error

    async def _find_anybody(self) -> Principal:
        stamp = self._data.stamp
        recognised = await self._recognition.recognise(ANYBODY)
        self._anybody.keep(recognised.principal, stamp)
        return recognised.principal

    async def _identify(self, request: web.Request, shown: Shown) -> Principal:
        """Raises CredentialsInvalid, and what checking passwords raises."""
        if (checked := self._checked.find(shown)) is not None:
            return checked.principal
        if (old := self._checked.find_old(shown)) is not None:
            # if it holds no more, whether the same text does is checked from the beginning
            with contextlib.suppress(CredentialsInvalid):
                return await self._renew(shown, old.credential)
        address = client_of(request.app[PROXIES].client(request))
        shown = self._sort(shown)
        if shown.name is None:
            return await self._join(shown, address)
        # many requests that come at once with one password are joined where it is compared
        compared = await self._sign_ins.verify(shown.name, shown.secret, address)
        return await self._keep(shown, compared.credential, compared.until - time.monotonic())

    async def _join(self, shown: Shown, address: str) -> Principal:
        """Many requests come at once with one token, which is checked once. Raises CredentialsInvalid."""
        key = self._checked.key_of(shown)
        task = self._checking.get(key)
        if task is None:
            task = self._checking[key] = asyncio.create_task(self._check_token(shown, address))
            task.add_done_callback(lambda _: self._checking.pop(key, None))
        try:
            # another request may wait for it when this one's client is gone
            return await asyncio.shield(task)
        except ConderyError as error:
            raise error.for_another() from error.__cause__

    async def _renew(self, shown: Shown, credential: Credential) -> Principal:
        """Who has proved it, now that access has changed. Raises CredentialsInvalid."""
        stamp = self._data.stamp
        recognised = await self._recognition.recognise(credential)
        self._checked.replace(shown, credential, recognised, stamp)
        return recognised.principal

    async def _check_token(self, shown: Shown, address: str) -> Principal:
        credential = await self._read_token(shown.secret)
        principal = await self._keep(shown, credential, BEARER_SECONDS)
        if credential.access_token:
            self._tokens.access.note_use(credential.access_token, address)
        return principal

    async def _keep(self, shown: Shown, credential: Credential, seconds: float) -> Principal:
        # what the credential says does not change, and whether it holds is found out from here on
        stamp = self._data.stamp
        recognised = await self._recognition.recognise(credential)
        self._checked.keep(shown, credential, recognised, stamp, seconds)
        return recognised.principal

    async def _read_token(self, text: str) -> Credential:
        """Raises CredentialsInvalid."""
        if is_access_token(text) or is_api_token(text):
            return await self._tokens.access.find(text)
        for reader in self._readers:
            if reader.knows(text):
                return await reader.read(text)
        return await self._tokens.registry.verify(text)

    def _sort(self, shown: Shown) -> Shown:
        """An access token or a workload's may stand in a password's place, whatever the name: it is what CI can send.

        A registry token may not.
        """
        text = shown.secret
        if shown.name is None or not may_be_token(text):
            return shown
        is_token = is_access_token(text) or is_api_token(text) or any(each.knows(text) for each in self._readers)
        return Shown(None, text) if is_token else shown
