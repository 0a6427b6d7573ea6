"""The proxies of the environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY): the administrator's own way out."""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
from aiohttp.helpers import get_env_proxy_for_url
from yarl import URL

OuterProxy = Callable[[str], tuple[URL, aiohttp.BasicAuth | None] | None]


def find_outer_proxy(url: str) -> tuple[URL, aiohttp.BasicAuth | None] | None:
    """The proxy that `url` is to be asked by, and what it wants to see; None to go there directly."""
    try:
        return get_env_proxy_for_url(URL(url, encoded=True))
    except (LookupError, ValueError):
        return None
