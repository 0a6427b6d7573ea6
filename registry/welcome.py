"""GET /: what this is and what to ask it for, for people who open the URL in a browser or with curl.

Everybody gets the same: nothing about stored content, and no version.
"""

from __future__ import annotations

from aiohttp import web

from registry.answers import PAGE_HEADERS
from registry.parts import PARTS, host_of, url_of

_TEXT = """\
condery: a registry of container images that makes conda environments on demand.
The image's name says what is in it:

    docker pull {host}/{root}/python/numpy
    docker pull {host}/{root}/python.like.3.12/scipy.gt.1.0

Its lock file:       {url}/files/{root}/python/numpy/latest/conda-lock.yml
Registry API:        {url}/v2/   (OCI distribution specification)
Health:              {url}/healthz   and   {url}/readyz
Documentation:       README.md and docs/ in condery's source; docs/clients.md for docker, podman and others
"""


async def welcome(request: web.Request) -> web.Response:
    text = _TEXT.format(url=url_of(request), host=host_of(request), root=request.app[PARTS].demand.root)
    # a shared cache must not keep text that quotes one client's Host
    return web.Response(text=text, content_type="text/plain", charset="utf-8", headers=PAGE_HEADERS)
