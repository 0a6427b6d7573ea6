"""Fetches what issuers of identities publish about themselves: through the guard, of a bounded size, by nobody's
redirect."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path

import aiohttp
from yarl import URL

from auth.sign_in.errors import FetchFailed, TrustUnusable
from auth.sign_in.issuer_keys import Fetch
from auth.sign_in.settings import WorkloadSettings
from builder.network.addresses import AddressGuard, InternalAddress, split_endpoint
from builder.network.routes import Routes

MOST_BYTES = 1 << 20
MOST_CONNECTIONS = 20
SILENT_SECONDS = 10.0


@contextlib.asynccontextmanager
async def open_fetch(settings: WorkloadSettings) -> AsyncIterator[Fetch]:
    """`auth.sign_in.issuer_keys.Fetch` for the issuers of the settings. Raises TrustUnusable."""
    client = IssuerClient(settings)
    try:
        yield client.fetch
    finally:
        await client.close()


class IssuerClient:
    """Gets documents from issuers, and from where they say that their documents are."""

    def __init__(self, settings: WorkloadSettings) -> None:
        issuers = settings.workload_issuers
        guard = AddressGuard([*map(split_endpoint, issuers), *settings.workload_internal_hosts])
        self._plain = {split_endpoint(each) for each in issuers if each.startswith("http://")}
        self._routes = Routes(guard, MOST_CONNECTIONS, SILENT_SECONDS, _load_trust(settings.workload_ca_file))

    async def fetch(self, url: str) -> bytes:
        """The document at `url`. Raises FetchFailed."""
        try:
            address = URL(url, encoded=True)
            plain = address.scheme == "http" and split_endpoint(url) in self._plain
            if (address.scheme != "https" and not plain) or not address.host or address.user is not None:
                raise FetchFailed(url, "is no address with https")
            async with self._routes.get(url, {"Accept": "application/json"}) as response:
                if response.status != HTTPStatus.OK:
                    raise FetchFailed(url, f"answers {response.status}")
                return await _read(url, response)
        except InternalAddress as error:
            reason = f"is on {error.host}, which has an internal address; workload_internal_hosts does not have it"
            raise FetchFailed(url, reason) from None
        except (aiohttp.ClientSSLError, ssl.SSLError):
            raise FetchFailed(url, "has a certificate that is not trusted here; workload_ca_file may help") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchFailed(url, f"cannot be fetched ({type(error).__name__})") from None

    async def close(self) -> None:
        await self._routes.close()


async def _read(url: str, response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MOST_BYTES:
            raise FetchFailed(url, f"is larger than the allowed {MOST_BYTES} bytes")
    return bytes(body)


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
