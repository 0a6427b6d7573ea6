"""The proxies in the environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), which the administrator chose."""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
from aiohttp.helpers import get_env_proxy_for_url
from yarl import URL

OuterProxy = Callable[[str], tuple[URL, aiohttp.BasicAuth | None] | None]


def find_outer_proxy(url: str) -> tuple[URL, aiohttp.BasicAuth | None] | None:
    """Return the proxy for `url` and its authorization, or None to connect directly."""
    try:
        return get_env_proxy_for_url(URL(url, encoded=True))
    except (LookupError, ValueError):
        return None
