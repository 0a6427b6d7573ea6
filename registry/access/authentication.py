"""From the Authorization header to a principal.

Checking a password takes a tenth of a second and 64 MiB, and a client sends it with every request. So what was checked
is remembered for a short time, under a keyed hash of the header: who reads the memory of this process finds no password
in it. What somebody may do is loaded anew as soon as any process has changed anything about access.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from auth.changing import AccessData
from auth.principal import Principal
from auth.remembered import RememberedAnswer, RememberedAnswers
from auth.tokens.api_tokens import is_api_token
from auth.tokens.credential import ANYBODY, Credential, Recognition
from auth.tokens.errors import CredentialsInvalid
from auth.tokens.secrets_text import is_access_token
from auth.tokens.tokens import Tokens
from registry.access.challenge import Challenger
from registry.access.passwords import PasswordSignIns
from registry.errors import Unauthorized
from registry.parts import PROXIES
from registry.peers.networks import client_of

MOST_REMEMBERED = 10_000
"""Credentials, of about 1 KB each."""
BASIC_SECONDS = 60.0
"""Time for which a password that was checked is not checked again."""
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


@dataclass(frozen=True, slots=True)
class _Checked:
    credential: Credential
    principal: Principal
    """Whoever has proved it, as they were when it was last recognised."""


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
        self._key = secrets.token_bytes(32)
        self._checked: RememberedAnswers[bytes, _Checked] = RememberedAnswers(data, MOST_REMEMBERED)
        self._checking: dict[bytes, asyncio.Task[Principal]] = {}
        self._anybody: RememberedAnswer[Principal] = RememberedAnswer(data)
        self._has_sign_ins: RememberedAnswer[bool] = RememberedAnswer(data)

    @property
    def _lets_others_in(self) -> bool:
        """Whether somebody can sign in without having an account yet."""
        return bool(self._readers) or self._makes_accounts

    def recall(self, request: web.Request) -> Principal | None:
        """Who sent it, if that is known without waiting for anything."""
        headers = request.headers.getall("Authorization", ())
        if not headers:
            if self._ambient and any(each.names_somebody(request) for each in self._ambient):
                return None
            return self._anybody.find()
        if len(headers) > 1:
            # `identify` refuses it
            return None
        checked = self._checked.find(self._digest(headers[0]))
        return checked.principal if checked is not None else None

    async def identify(self, request: web.Request) -> Principal:
        """Who sent it. Raises Unauthorized for credentials that do not hold, and what checking passwords raises."""
        headers = request.headers.getall("Authorization", ())
        if not headers:
            return await self._find_ambient(request) or await self._find_anybody()
        if len(headers) > 1:
            raise self.challenge(request, error="invalid_request", message="there are several Authorization headers")
        return await self._identify_sender(request, headers[0])

    def challenge(self, request: web.Request, scope: str = "", error: str = "", message: str = "") -> Unauthorized:
        return self._challenger.challenge(request, scope, error, message)

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
        return await self._identify_sender(request, f"Basic {login}")

    async def _identify_sender(self, request: web.Request, header: str) -> Principal:
        try:
            return await self._identify(header, client_of(request.app[PROXIES].client(request)))
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

    async def _identify(self, header: str, address: str) -> Principal:
        key = self._digest(header)
        if (checked := self._checked.find(key)) is not None:
            return checked.principal
        if (old := self._checked.find_old(key)) is not None:
            try:
                return await self._renew(key, old.credential)
            except CredentialsInvalid:
                # it held when it was checked; whether it does now is checked from the beginning
                self._checked.forget(key)
        # many requests come at once with one login, which is checked once
        task = self._checking.get(key)
        if task is None:
            task = self._checking[key] = asyncio.create_task(self._check(key, header, address))
            task.add_done_callback(lambda _: self._checking.pop(key, None))
        # another request may wait for it when this one's client is gone
        return await asyncio.shield(task)

    async def _renew(self, key: bytes, credential: Credential) -> Principal:
        """Who has proved it, now that access has changed. Raises CredentialsInvalid."""
        stamp = self._data.stamp
        recognised = await self._recognition.recognise(credential)
        checked = _Checked(credential, recognised.principal)
        self._checked.replace(key, checked, stamp, recognised.until - time.time())
        return checked.principal

    async def _check(self, key: bytes, header: str, address: str) -> Principal:
        scheme, _, text = header.partition(" ")
        stamp = self._data.stamp
        match scheme.lower():
            case "bearer":
                credential, seconds = await self._read_bearer(text.strip()), BEARER_SECONDS
            case "basic":
                credential, seconds = await self._read_basic(*_split_basic(text.strip()), address), BASIC_SECONDS
            case _:
                raise CredentialsInvalid("they are neither Bearer nor Basic")
        recognised = await self._recognition.recognise(credential)
        if credential.access_token:
            self._tokens.access.note_use(credential.access_token, address)
        checked = _Checked(credential, recognised.principal)
        self._checked.keep(key, checked, stamp, min(seconds, recognised.until - time.time()))
        return checked.principal

    async def _read_bearer(self, text: str) -> Credential:
        if (token := await self._read_token(text)) is not None:
            return token
        return await self._tokens.registry.verify(text)

    async def _read_basic(self, name: str, password: str, address: str) -> Credential:
        """A token may stand in the password's place, whatever the name: it is what CI can send."""
        if (token := await self._read_token(password)) is not None:
            return token
        return await self._sign_ins.verify(name, password, address)

    async def _read_token(self, text: str) -> Credential | None:
        """Of an access token or a workload's; None for what is neither. Raises CredentialsInvalid."""
        if is_access_token(text) or is_api_token(text):
            return await self._tokens.access.find(text)
        for reader in self._readers:
            if reader.knows(text):
                return await reader.read(text)
        return None

    def _digest(self, header: str) -> bytes:
        return hashlib.blake2b(header.encode("utf-8", "surrogateescape"), key=self._key, digest_size=16).digest()


def _split_basic(text: str) -> tuple[str, str]:
    """Name and password (RFC 7617); raises CredentialsInvalid."""
    try:
        name, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise CredentialsInvalid("they are no name and password in base64") from None
    if not colon:
        raise CredentialsInvalid("they have no password")
    return name, password
