"""The proxies in the environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), which the administrator chose."""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
from aiohttp.helpers import get_env_proxy_for_url
from yarl import URL

from storage.network.this_machine import is_this_machine

OuterProxy = Callable[[str], tuple[URL, aiohttp.BasicAuth | None] | None]


def find_outer_proxy(url: str) -> tuple[URL, aiohttp.BasicAuth | None] | None:
    """Return the proxy for `url` and its authorization, or None to connect directly.

    It is never one for this machine: localhost is another machine to a proxy, which would get what is sent, such as
    passwords that go unencrypted to a server here.
    """
    try:
        address = URL(url, encoded=True)
        return None if is_this_machine(address.host or "") else get_env_proxy_for_url(address)
    except (LookupError, ValueError):
        return None
