"""A provider that signs people in (OpenID Connect Core 1.0, authorization code flow; RFC 7636, RFC 9207)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, urlencode

import structlog

from auth.sign_in.errors import (
    FetchFailed,
    IdentityRefused,
    IssuerUnusable,
    ProviderUnreachable,
    SignInEnded,
    SignInFailed,
)
from auth.sign_in.identities import MOST_GROUPS, Identity
from auth.sign_in.identity_token import verify
from auth.sign_in.issuer_keys import Discovery, IssuerKeys
from auth.tokens.secrets_text import new_secret
from storage import strict_json
from storage.errors import JsonInvalid

LONGEST_CODE = 4096
LONGEST_REFRESH = 8192
"""Characters of a refresh token; those of some providers are tokens with claims."""
EXCHANGE_SECONDS = 20.0
FRESH_SECONDS = 300.0
"""For so long it is known what a provider says of itself."""
RETRY_SECONDS = 5.0
"""One that did not answer is asked at most so often."""

_OF_PERSONS = frozenset({"invalid_grant", "access_denied"})
_OF_OTHERS = frozenset(
    {
        "invalid_client",
        "unauthorized_client",
        "unsupported_grant_type",
        "slow_down",
        "temporarily_unavailable",
        "server_error",
    }
)
"""What a token endpoint says of clients, or of itself."""

log = structlog.get_logger(__name__)


class ProviderWeb(Protocol):
    """Talks to a provider; both raise FetchFailed."""

    async def fetch(self, url: str, authorization: str = "") -> bytes: ...

    async def post(self, url: str, form: Mapping[str, str], authorization: str = "") -> bytes: ...


@dataclass(frozen=True)
class Client:
    """What we are to the provider, and where it says what."""

    client_id: str
    secret: str
    """Empty for a client without one."""
    redirect_url: str
    scopes: tuple[str, ...]
    name_claim: str
    groups_claim: str | None

    def __repr__(self) -> str:
        return f"Client({self.client_id!r})"


class SignedIn(NamedTuple):
    """Somebody by the word of a provider."""

    identity: Identity
    refresh: str
    """With which it can be asked again; empty if it gives none."""

    def __repr__(self) -> str:
        return f"SignedIn({self.identity!r})"


class Provider:
    """The one at `issuer`. It is asked for nothing before somebody signs in."""

    def __init__(self, issuer: str, client: Client, web: ProviderWeb) -> None:
        self.issuer = issuer
        self._client = client
        self._web = web
        self._discovery = Discovery(issuer, web.fetch)
        self._keys = IssuerKeys(self._discovery, web.fetch)
        self._document: Mapping[str, Any] = {}
        self._asked = -math.inf
        self._failure: str | None = None
        """Why it could not be asked; no exception, whose traceback would grow each time it is raised."""
        self._asking = asyncio.Lock()

    async def begin(self, state: str, secrets: Mapping[str, str]) -> str:
        """Where to send somebody who wants to sign in. Raises SignInFailed."""
        challenge = hashlib.sha256(secrets["verifier"].encode()).digest()
        fields = {
            "response_type": "code",
            "client_id": self._client.client_id,
            "redirect_uri": self._client.redirect_url,
            "scope": " ".join(self._client.scopes),
            "state": state,
            "nonce": secrets["nonce"],
            "code_challenge": base64.urlsafe_b64encode(challenge).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        if "offline_access" in self._client.scopes:
            # otherwise it has to be ignored (OpenID Connect Core 1.0, section 11)
            fields["prompt"] = "consent"
        try:
            async with asyncio.timeout(EXCHANGE_SECONDS):
                url = self._discovery.read_address(await self._load(), "authorization_endpoint")
        except (FetchFailed, TimeoutError) as error:
            raise self._unreachable(error) from None
        return f"{url}{'&' if '?' in url else '?'}{urlencode(fields)}"

    async def check_issuer(self, issuer: str | None) -> None:
        """Raises SignInFailed for the answer of another provider, which is named in it (RFC 9207, section 2.4)."""
        if issuer is None:
            try:
                async with asyncio.timeout(EXCHANGE_SECONDS):
                    names = (await self._load()).get("authorization_response_iss_parameter_supported")
            except (FetchFailed, TimeoutError) as error:
                raise self._unreachable(error) from None
            if names is not True:
                return
        if issuer != self.issuer:
            raise SignInFailed("another provider has answered; begin again at /login")

    async def finish(self, code: str, secrets: Mapping[str, str]) -> SignedIn:
        """Who has come back with `code`. Raises SignInFailed."""
        if not 0 < len(code) <= LONGEST_CODE or not code.isprintable():
            raise SignInFailed("the provider sent no code")
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._client.redirect_url,
            "code_verifier": secrets["verifier"],
        }
        try:
            return await self._ask(form, secrets["nonce"])
        except (FetchFailed, TimeoutError) as error:
            raise self._unreachable(error) from None
        except IssuerUnusable as error:
            raise self._unreachable(error.reason) from None
        except IdentityRefused as error:
            raise SignInFailed(f"{self._refuse(error)}; sign in again at /login") from None

    async def refresh(self, token: str) -> SignedIn:
        """Who somebody is now who signed in before, and the token to ask with the next time.

        Raises SignInEnded if the provider refuses, SignInFailed if its answer is no use, and ProviderUnreachable if it
        cannot be asked about anybody.
        """
        try:
            found = await self._ask({"grant_type": "refresh_token", "refresh_token": token}, None)
        except (FetchFailed, TimeoutError) as error:
            raise self._unreachable(error) from None
        except IssuerUnusable as error:
            raise self._unreachable(error.reason) from None
        except IdentityRefused as error:
            raise SignInEnded(self._refuse(error)) from None
        # one that gives no other takes the same again (RFC 6749, section 6)
        return found if found.refresh else found._replace(refresh=token)

    async def _ask(self, form: Mapping[str, str], nonce: str | None) -> SignedIn:
        """Raises FetchFailed, IssuerUnusable, IdentityRefused, TimeoutError, and without `nonce` SignInEnded."""
        async with asyncio.timeout(EXCHANGE_SECONDS):
            document = await self._load()
            tokens = await self._exchange(document, form)
            if nonce is None and "id_token" not in tokens:
                # at a refresh it need not say so again (OpenID Connect Core 1.0, section 12.2)
                claims = await self._tell(document, tokens)
            else:
                claims = await self._complete(document, tokens, await self._verify(tokens, nonce))
            return SignedIn(self._identity(claims), _read_refresh(tokens))

    async def close(self) -> None:
        await self._keys.close()

    async def _load(self) -> Mapping[str, Any]:
        """What the provider says of itself. Anybody can begin a sign-in, so it is asked now and then. Raises
        FetchFailed."""
        async with self._asking:
            age = time.monotonic() - self._asked
            if self._failure is not None and age < RETRY_SECONDS:
                raise FetchFailed(self.issuer, self._failure)
            if self._failure is not None or age >= FRESH_SECONDS:
                # until it answers, also if nobody waits for that any more
                self._asked, self._failure = time.monotonic(), "does not answer"
                try:
                    self._document, self._failure = await self._discovery.load(), None
                except FetchFailed as error:
                    self._failure = error.reason
                    raise
            return self._document

    async def _exchange(self, document: Mapping[str, Any], form: Mapping[str, str]) -> Mapping[str, Any]:
        url = self._discovery.read_address(document, "token_endpoint")
        client = self._client
        authorization = ""
        methods = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if not client.secret:
            form = {**form, "client_id": client.client_id}
        elif isinstance(methods, list) and "client_secret_basic" not in methods:
            form = {**form, "client_id": client.client_id, "client_secret": client.secret}
        else:
            # RFC 6749, 2.3.1
            login = f"{quote(client.client_id, safe='')}:{quote(client.secret, safe='')}"
            authorization = f"Basic {base64.b64encode(login.encode()).decode()}"
        try:
            body = await self._web.post(url, form, authorization)
        except FetchFailed as error:
            if "refresh_token" in form and _says_ended(error):
                said = f"{error.status} {error.code}".strip()
                raise SignInEnded(f"{self.issuer} takes the refresh token no more: it answers {said}") from None
            raise
        return await _read_object(url, body)

    async def _verify(self, tokens: Mapping[str, Any], nonce: str | None) -> Mapping[str, Any]:
        """Those of a sign-in with `nonce`, or of a refresh. Raises IdentityRefused, IssuerUnusable."""
        text = tokens.get("id_token")
        if not isinstance(text, str):
            raise IdentityRefused("there is no id_token")
        claims = await verify(text, self.issuer, self._client.client_id, self._keys)
        found = claims.get("nonce")
        if nonce is not None and not (isinstance(found, str) and hmac.compare_digest(found.encode(), nonce.encode())):
            raise IdentityRefused("it is for another sign-in")
        if claims.get("azp", self._client.client_id) != self._client.client_id:
            raise IdentityRefused("it was made for another client")
        return claims

    async def _complete(
        self, document: Mapping[str, Any], tokens: Mapping[str, Any], claims: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """With what the provider says only when it is asked (OpenID Connect Core 1.0, 5.3)."""
        wanted = {self._client.name_claim, self._client.groups_claim} - {None}
        if wanted <= claims.keys() or "userinfo_endpoint" not in document or "access_token" not in tokens:
            return claims
        more = await self._tell(document, tokens)
        if more["sub"] != claims["sub"]:
            raise IdentityRefused("the provider tells of somebody else")
        return {**more, **claims}

    async def _tell(self, document: Mapping[str, Any], tokens: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the provider says of whom its access token is for. Raises FetchFailed, IdentityRefused."""
        url = self._discovery.read_address(document, "userinfo_endpoint")
        access = tokens.get("access_token")
        if not isinstance(access, str) or not access.isascii() or not access.isprintable():
            raise FetchFailed(url, "has no access token that can be sent", HTTPStatus.OK)
        claims = await _read_object(url, await self._web.fetch(url, f"Bearer {access}"))
        if not isinstance(claims.get("sub"), str):
            raise IdentityRefused("the provider does not say of whom it tells")
        return claims

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        name, groups = claims.get(self._client.name_claim), None
        if self._client.groups_claim is not None:
            listed = claims.get(self._client.groups_claim, [])
            if not isinstance(listed, list) or len(listed) > MOST_GROUPS:
                raise IdentityRefused(f"{self._client.groups_claim} is no list of at most {MOST_GROUPS} groups")
            groups = frozenset(each for each in listed if isinstance(each, str))
        return Identity(self.issuer, claims["sub"], name if isinstance(name, str) else "", groups)

    def _refuse(self, error: IdentityRefused) -> str:
        log.warning("identity of a provider refused", issuer=self.issuer, reason=error.reason)
        return f"what {self.issuer} says of you does not hold; the server's log has the reason"

    def _unreachable(self, reason: object) -> SignInFailed:
        log.warning("provider cannot be used", issuer=self.issuer, reason=str(reason) or type(reason).__name__)
        answered = isinstance(reason, FetchFailed) and 0 < reason.status < HTTPStatus.INTERNAL_SERVER_ERROR
        kind = SignInFailed if answered else ProviderUnreachable
        return kind(
            f"{self.issuer} cannot be reached now, or refuses; try again later at /login. If it stays so, tell an "
            "administrator: the server's log has the reason"
        )


def make_secrets() -> Mapping[str, str]:
    """What binds an answer of the provider to the sign-in that began here."""
    return {"nonce": new_secret(), "verifier": new_secret()}


def _read_refresh(tokens: Mapping[str, Any]) -> str:
    """Empty for none that could be sent again."""
    found = tokens.get("refresh_token")
    usable = isinstance(found, str) and len(found) <= LONGEST_REFRESH and found.isascii() and found.isprintable()
    return str(found) if usable else ""


def _says_ended(error: FetchFailed) -> bool:
    """Whether a provider refuses the refresh token, which is invalid, expired or revoked (RFC 6749, section 5.2).

    Some say so with another status. Others say with that status that we are refused, and not the person. Without a
    word of OAuth's, 401 and 403 may come from a proxy on the way.
    """
    if error.code in _OF_PERSONS or error.code in _OF_OTHERS:
        return error.code in _OF_PERSONS
    if error.status == HTTPStatus.BAD_REQUEST:
        return True
    return bool(error.code) and error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


async def _read_object(url: str, body: bytes) -> Mapping[str, Any]:
    """Raises FetchFailed."""
    try:
        # others would have to wait while a large one is read
        document = await asyncio.to_thread(strict_json.parse, body)
    except JsonInvalid as error:
        raise FetchFailed(url, f"is no JSON: {error}", HTTPStatus.OK) from None
    if not isinstance(document, dict):
        raise FetchFailed(url, "is no object", HTTPStatus.OK)
    return document
