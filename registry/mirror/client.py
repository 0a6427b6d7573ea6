"""Requests to other registries: where they may go, who gets the login, and how long they may take."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol, Self

import aiohttp
from aiohttp.abc import AbstractResolver
from cachetools import TLRUCache
from yarl import URL

from builder.network.addresses import AddressGuard, InternalAddress
from builder.network.connector import make_connector
from builder.remote.logins import Login
from builder.work.single_flight import SingleFlight
from registry.mirror import tokens
from registry.mirror.errors import (
    MirrorError,
    RepositoryLacking,
    UpstreamBroke,
    UpstreamFailed,
    UpstreamLacks,
    UpstreamLimits,
)
from registry.mirror.names import Source
from registry.mirror.tokens import Grant
from storage import strict_json
from storage.catalog.credential import NamespaceCredential
from storage.catalog.credentials import NoCredentials
from storage.errors import ConderyError, JsonInvalid
from storage.oci import MIRROR_ROOT
from storage.text import Sent

MOST_REDIRECTS = 5
MOST_GRANTS = 4096
CONNECT_SECONDS = 10.0
READ_BUFFER = 512 << 10
"""Bytes of one answer that are buffered until somebody reads them."""

TOKEN_BYTES = 1 << 20
ERROR_BYTES = 64 << 10
MOST_DIGITS = 9

_Key = tuple[Source, str]
"""A repository, and the id of the credential with which it is asked: empty for that of the settings."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class OwnCredentials(Protocol):
    """What namespaces may send; `storage.catalog.credentials` has it."""

    async def find(self, namespace: str) -> Sequence[NamespaceCredential]:
        """Those of a namespace, the longest address first."""


@dataclass(frozen=True)
class _Account:
    """With what a registry is asked: a login, or nobody's. Another one has grants of its own."""

    id: str = ""
    login: Login | None = None

    @property
    def sent(self) -> list[Sent]:
        return [Sent(self.login.password, self.login.username)] if self.login else []


class UpstreamClient:
    """Talks to registries; it uses http for `insecure` ones. Raises MirrorError.

    The login for a repository is the credential of the namespace of mirrors that covers it, else one of `logins`, which
    are by registry.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        guard: AddressGuard,
        logins: Mapping[str, Login],
        insecure: Collection[str],
        own: OwnCredentials | None = None,
    ) -> None:
        self._own = own or NoCredentials()
        self._session = session
        self._guard = guard
        self._logins = logins
        self._insecure = frozenset(insecure)
        self._grants: TLRUCache[_Key, Grant] = TLRUCache(MOST_GRANTS, lambda _, grant, now: now + grant.seconds)
        self._granting: SingleFlight[_Key, Grant] = SingleFlight()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        *,
        internal: Collection[str],
        logins: Mapping[str, Login],
        insecure: Collection[str],
        seconds: float,
        resolver: AbstractResolver | None = None,
        own: OwnCredentials | None = None,
    ) -> AsyncIterator[Self]:
        """`internal` hosts may have any address; `seconds` is how long a registry may stay silent."""
        guard = AddressGuard(internal)
        session = aiohttp.ClientSession(
            connector=make_connector(guard, resolver),
            cookie_jar=aiohttp.DummyCookieJar(),
            # encoded content has another digest, and its length is unknown
            headers={"User-Agent": "condery", "Accept-Encoding": "identity"},
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=seconds),
            read_bufsize=READ_BUFFER,
        )
        async with session:
            client = cls(session, guard, logins, insecure, own)
            try:
                yield client
            finally:
                await client._granting.close()

    async def account_of(self, source: Source) -> str:
        """The id of the credential with which the repository is asked now; empty for that of the settings."""
        return (await self._find_account(source)).id

    def url(self, source: Source, path: str) -> URL:
        """The URL of `path` below the repository."""
        return URL(f"{self._scheme(source)}://{source.api}/v2/{source.repository}/{path}", encoded=True)

    @contextlib.asynccontextmanager
    async def send(
        self, method: str, source: Source, url: URL, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield the answer, whatever its status. Errors while the block reads it are raised as MirrorError, too."""
        account = await self._find_account(source)
        sent = account.sent
        with _presentable(sent), _translate_errors(source):
            response = await self._ask_authorized(method, source, url, headers or {}, account, sent)
            try:
                yield response
            finally:
                response.close()

    async def _ask_authorized(
        self,
        method: str,
        source: Source,
        url: URL,
        headers: Mapping[str, str],
        account: _Account,
        sent: list[Sent],
    ) -> aiohttp.ClientResponse:
        """Send a request, and once more with a new grant if the registry itself answers 401.

        `sent` gets the grants that are sent.
        """
        key = (source, account.id)
        used = self._grants.get(key)
        if used is not None:
            sent.append(used.sent)
        response = await self._follow(method, source, url, headers, used)
        if response.status != HTTPStatus.UNAUTHORIZED or response.url.origin() != url.origin():
            return response
        challenge = tokens.read_challenge(response.headers.getall("WWW-Authenticate", []))
        if challenge is None or (challenge.scheme == "basic" and account.login is None):
            return response
        response.close()
        grant = self._grants.get(key)
        if grant is None or grant is used:
            grant = await self._granting.do(key, lambda: self._grant(source, account, challenge))
        sent.append(grant.sent)
        return await self._follow(method, source, url, headers, grant)

    async def _find_account(self, source: Source) -> _Account:
        for each in await self._own.find(MIRROR_ROOT):
            if each.covers_repository(source.registry, source.repository):
                return _Account(each.id, Login(each.username, each.secret))
        return _Account(login=self._logins.get(source.registry))

    async def _grant(self, source: Source, account: _Account, challenge: tokens.Challenge) -> Grant:
        if challenge.scheme == "basic":
            assert account.login is not None
            grant = tokens.basic(account.login)
        else:
            grant = tokens.read_token(source, await self._token(source, challenge, account.login))
        self._grants[source, account.id] = grant
        return grant

    async def _token(self, source: Source, challenge: tokens.Challenge, login: Login | None) -> Any:
        url = tokens.token_url(source, challenge)
        headers = {"Accept": "application/json"}
        if login is not None:
            tokens.check_login(source, url)
            headers["Authorization"] = tokens.basic(login).header
        self._check(source, url)
        with _translate_errors(source):
            async with self._session.get(url, headers=headers, allow_redirects=False) as response:
                if response.status != HTTPStatus.OK:
                    raise await refusal(source, response, "token")
                return await parse_json(source, await read_limited(source, response, TOKEN_BYTES))

    async def _follow(
        self, method: str, source: Source, url: URL, headers: Mapping[str, str], grant: Grant | None
    ) -> aiohttp.ClientResponse:
        """Send the request and follow redirects; only the registry itself gets the grant."""
        home = url.origin()
        for _ in range(MOST_REDIRECTS + 1):
            self._check(source, url)
            own = {"Authorization": grant.header} if grant and url.origin() == home else {}
            response = await self._session.request(method, url, headers={**headers, **own}, allow_redirects=False)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or location is None:
                return response
            response.close()
            # keep its exact characters: a storage service's signature covers them
            url = url.join(URL(location, encoded=True))
        raise UpstreamFailed(source.registry, "redirects too many times")

    def _check(self, source: Source, url: URL) -> None:
        """Raise UpstreamFailed for a URL that a registry may not send us to, whatever it resolves to."""
        schemes = ("https", "http") if self._scheme(source) == "http" else ("https",)
        if url.scheme not in schemes or not url.host or not url.port or url.user is not None:
            raise UpstreamFailed(source.registry, f"refers to {url.scheme or 'no scheme'}://{url.host or ''}")
        self._guard.check_host(url.host, url.port)

    def _scheme(self, source: Source) -> str:
        host = source.api.partition(":")[0]
        plain = _is_this_machine(host) or self._insecure & {source.registry, source.api, host}
        return "http" if plain else "https"


def _is_this_machine(host: str) -> bool:
    """Docker's rule: http for localhost and 127.0.0.0/8."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def _presentable(sent: Sequence[Sent]) -> Iterator[None]:
    """Let no error out that repeats something of `sent`, as it is once the error is raised."""
    try:
        yield
    except MirrorError as error:
        error.make_presentable(sent)
        raise


@contextlib.contextmanager
def _translate_errors(source: Source) -> Iterator[None]:
    """Raise aiohttp's errors as ours, without URLs, which may hold secrets."""
    registry = source.registry
    try:
        yield
    except InternalAddress as error:
        referred = "" if error.host == source.api else f"refers to {error.host}, which "
        reason = f"{referred}has an internal address; mirror_internal_hosts does not have it"
        raise UpstreamFailed(registry, reason) from None
    except (aiohttp.ClientSSLError, ssl.SSLError):
        raise UpstreamFailed(registry, "has a certificate that is not trusted here") from None
    except aiohttp.ClientConnectorDNSError:
        raise UpstreamFailed(registry, "has a name that cannot be resolved here") from None
    except TimeoutError:
        raise UpstreamBroke(registry, "did not answer in time") from None
    except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError):
        raise UpstreamBroke(registry, "cannot be reached, or broke the connection") from None
    except (aiohttp.InvalidURL, ValueError):
        raise UpstreamFailed(registry, "refers to an invalid address") from None
    except aiohttp.ClientError as error:
        raise UpstreamFailed(registry, f"sent an answer that cannot be parsed ({type(error).__name__})") from None


async def refusal(
    source: Source, response: aiohttp.ClientResponse, what: str, lacking: type[UpstreamLacks] = UpstreamLacks
) -> MirrorError:
    """The error for an unsuccessful answer to a request for `what`."""
    code, message = await _read_error(source, response)
    if response.status == HTTPStatus.NOT_FOUND:
        kind = RepositoryLacking if code == "NAME_UNKNOWN" else lacking
        return kind(source.registry, f"{what} in {source.repository}", message)
    if response.status == HTTPStatus.TOO_MANY_REQUESTS:
        return UpstreamLimits(source.registry, message, _retry_after(response))
    return UpstreamFailed(
        source.registry, f"answered {response.status} to the request for {what} in {source.repository}: {message}"
    )


async def _read_error(source: Source, response: aiohttp.ClientResponse) -> tuple[str, str]:
    """Code and message of an error document (distribution-spec, "Error Codes"), or else of the status line."""
    try:
        document = strict_json.parse(await read_limited(source, response, ERROR_BYTES))
        first = document["errors"][0]
        code, message = first.get("code"), first.get("message")
        return code if isinstance(code, str) else "", message if isinstance(message, str) else ""
    except (ConderyError, KeyError, IndexError, TypeError, AttributeError, aiohttp.ClientError, OSError):
        return "", response.reason or ""


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < MOST_DIGITS else None


async def read_limited(source: Source, response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body; raises UpstreamFailed if it is longer than `most` bytes."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > most:
            raise UpstreamFailed(source.registry, f"answered with more than the allowed {most} bytes")
    return bytes(body)


async def parse_json(source: Source, body: bytes) -> Any:
    """Parse `body` as JSON; raises UpstreamFailed."""
    try:
        return await asyncio.to_thread(strict_json.parse, body)
    except JsonInvalid as error:
        raise UpstreamFailed(source.registry, f"answered with {error}") from None
