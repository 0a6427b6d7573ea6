"""GET /ui/...: the web interface of conda-store, from the files of its npm package, on a page of ours.

The package is @conda-store/conda-store-ui, and the setting `ui_directory` names its folder `dist`. The page loads what
the interface has to know of this server, then the interface itself. Its editor writes styles into the page, which this
page allows and no other does; what it would load from other hosts stays blocked.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import orjson
from aiohttp import web

from registry.answers import PAGE_HEADERS
from registry.errors import RouteUnknown
from registry.parts import PROXIES, SETTINGS
from storage.errors import ConderyError

BASE = "/ui"
SCRIPT, STYLE = "main.js", "main.css"
CONFIGURATION = "runtime-config.js"

_HEADERS: Mapping[str, str] = {
    **PAGE_HEADERS,
    "Content-Type": "text/html; charset=utf-8",
    # with no-referrer a browser would not say whose page sends a request
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "connect-src 'self'; img-src 'self' data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
}

_FILE_HEADERS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}

_PAGE = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Environments</title>
<meta name="viewport" content="width=device-width">
<link rel="stylesheet" href="{base}/main.css">
<script src="{base}/{configuration}"></script><script defer src="{base}/main.js"></script></head>
<body><noscript>This page needs JavaScript.</noscript></body></html>
"""


class InterfaceMissing(ConderyError):
    """The folder that the settings name is not the interface's."""

    is_mistake = True

    def __init__(self, directory: Path, name: str) -> None:
        super().__init__(
            f"ui_directory {directory} has no {name}; install the npm package @conda-store/conda-store-ui, and name "
            "its folder dist"
        )


def check_interface(directory: Path | None) -> None:
    """Raises InterfaceMissing."""
    for name in (SCRIPT, STYLE):
        if directory is not None and not (directory / name).is_file():
            raise InterfaceMissing(directory, name)


async def show_ui(request: web.Request) -> web.Response:
    """The page, whatever is below its address, which the interface reads. Raises RouteUnknown if there is none."""
    _directory(request)
    text = _PAGE.format(base=_prefix(request) + BASE, configuration=CONFIGURATION)
    # the interface goes there when nothing is at an address, and expects to be told so
    missing = request.path == f"{_prefix(request)}{BASE}/not-found"
    return web.Response(status=404 if missing else 200, text=text, headers=_HEADERS)


async def get_configuration(request: web.Request) -> web.Response:
    """What the interface has to know: where the API is, and where people sign in. Raises RouteUnknown."""
    _directory(request)
    prefix = _prefix(request)
    base = (request.app[PROXIES].base_url(request) or "") + prefix
    document = {
        "REACT_APP_API_URL": f"{base}/",
        "REACT_APP_AUTH_METHOD": "cookie",
        "REACT_APP_LOGIN_PAGE_URL": f"{base}/login?next=",
        "REACT_APP_LOGOUT_PAGE_URL": f"{base}/logout?next=/",
        "REACT_APP_STYLE_TYPE": "green-accent",
        "REACT_APP_SHOW_AUTH_BUTTON": "true",
        "REACT_APP_ROUTER_TYPE": "browser",
        "REACT_APP_URL_BASENAME": prefix + BASE,
    }
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Content-Type": "text/javascript"}
    return web.Response(body=b"var condaStoreConfig = " + orjson.dumps(document) + b";\n", headers=headers)


async def get_script(request: web.Request) -> web.StreamResponse:
    return _file(request, SCRIPT, "text/javascript")


async def get_style(request: web.Request) -> web.StreamResponse:
    return _file(request, STYLE, "text/css")


def _file(request: web.Request, name: str, media_type: str) -> web.FileResponse:
    return web.FileResponse(_directory(request) / name, headers={**_FILE_HEADERS, "Content-Type": media_type})


def _directory(request: web.Request) -> Path:
    directory = request.app[SETTINGS].ui_directory
    if directory is None:
        raise RouteUnknown(request.rel_url.raw_path)
    return directory


def _prefix(request: web.Request) -> str:
    """The setting `api_prefix` if the request's path has it."""
    prefix = request.app[SETTINGS].api_prefix or ""
    return prefix if request.path.startswith(f"{prefix}/") else ""
