"""Fetches what issuers of identities publish about themselves: through the guard, of a bounded size, by nobody's
redirect."""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Collection, Mapping
from http import HTTPStatus
from pathlib import Path

import aiohttp
from yarl import URL

from auth.sign_in.errors import FetchFailed, TrustUnusable
from builder.network.addresses import AddressGuard, InternalAddress, split_endpoint
from builder.network.routes import Routes
from storage import strict_json
from storage.errors import JsonInvalid
from storage.text import Sent, hide

MOST_BYTES = 1 << 20
MOST_ERROR_BYTES = 16 << 10
MOST_CONNECTIONS = 20
SILENT_SECONDS = 10.0

_CODE = re.compile(r"[a-z_]{1,40}")


@contextlib.asynccontextmanager
async def open_issuer_client(
    issuers: Collection[str], internal: Collection[str], authorities: Path | None = None
) -> AsyncIterator[IssuerClient]:
    """For `issuers`, wherever they are, and for `internal` hosts. Raises TrustUnusable."""
    client = IssuerClient(issuers, internal, authorities)
    try:
        yield client
    finally:
        await client.close()


class IssuerClient:
    """Gets documents from issuers, and from where they say that their documents are."""

    def __init__(self, issuers: Collection[str], internal: Collection[str], authorities: Path | None = None) -> None:
        guard = AddressGuard([*map(split_endpoint, issuers), *internal])
        self._plain = {split_endpoint(each) for each in issuers if each.startswith("http://")}
        self._routes = Routes(guard, MOST_CONNECTIONS, SILENT_SECONDS, _load_trust(authorities))

    async def fetch(self, url: str, authorization: str = "") -> bytes:
        """The document at `url`. Raises FetchFailed."""
        return await self._send("GET", url, authorization)

    async def post(self, url: str, form: Mapping[str, str], authorization: str = "") -> bytes:
        """The answer to a form. Raises FetchFailed."""
        return await self._send("POST", url, authorization, form)

    async def _send(self, method: str, url: str, authorization: str, form: Mapping[str, str] | None = None) -> bytes:
        headers = {"Accept": "application/json"} | ({"Authorization": authorization} if authorization else {})
        try:
            address = URL(url, encoded=True)
            plain = address.scheme == "http" and split_endpoint(url) in self._plain
            if (address.scheme != "https" and not plain) or not address.host or address.user is not None:
                raise FetchFailed(url, "is no address with https")
            async with self._routes.send(method, url, headers, form) as response:
                if response.status != HTTPStatus.OK:
                    code = await _read_code(response) if form is not None else ""
                    # a code that repeats a secret is none
                    code = "" if _is_sent(code, authorization, form or {}) else code
                    said = f" ({code})" if code else ""
                    raise FetchFailed(url, f"answers {response.status}{said}", response.status, code)
                return await _read(url, response)
        except InternalAddress as error:
            reason = f"is on {error.host}, which has an internal address and is not in the settings"
            raise FetchFailed(url, reason) from None
        except (aiohttp.ClientSSLError, ssl.SSLError):
            raise FetchFailed(url, "has a certificate that is not trusted here") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchFailed(url, f"cannot be fetched ({type(error).__name__})") from None

    async def close(self) -> None:
        await self._routes.close()


async def _read(url: str, response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MOST_BYTES:
            raise FetchFailed(url, f"is larger than the allowed {MOST_BYTES} bytes", response.status)
    return bytes(body)


async def _read_code(response: aiohttp.ClientResponse) -> str:
    """What an answer says is wrong (RFC 6749, section 5.2); empty if it does not, or not at its beginning."""
    if not HTTPStatus.BAD_REQUEST <= response.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return ""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MOST_ERROR_BYTES:
            return ""
    try:
        document = strict_json.parse(bytes(body))
    except JsonInvalid:
        return ""
    code = document.get("error") if isinstance(document, dict) else None
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""


def _is_sent(code: str, authorization: str, form: Mapping[str, str]) -> bool:
    return code in form.values() or hide(authorization, [Sent(code)]) != authorization


def _load_trust(path: Path | None) -> ssl.SSLContext | None:
    """The usual authorities and those in the file. Raises TrustUnusable."""
    if path is None:
        return None
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(path)
    except (OSError, ssl.SSLError) as error:
        raise TrustUnusable(str(path), error.strerror or type(error).__name__) from None
    return context
