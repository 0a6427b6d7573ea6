"""Forms on our pages, and nothing that another page has sent.

A browser says whose page a request comes from, which is checked for every request that may change something
(`registry.access.site`). Not every program between it and us leaves that as it is. So each form also has a text that
only the page knows which this browser has got from us: the value of a cookie of its own, which no other host can set.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Mapping
from urllib.parse import parse_qs

from aiohttp import web

from auth.sign_in.errors import SignInFailed
from auth.tokens.secrets_text import new_secret
from registry.access.browser.cookie import Cookie
from registry.errors import TokenRequestInvalid
from registry.http.intake import read_limited
from registry.parts import PROXIES, SETTINGS
from storage.errors import quote

FIELD = "form"
SECONDS = 3600.0
"""For who fills in a form."""
LARGEST = 16 << 10
"""Bytes."""
MOST_FIELDS = 20
TYPE = "application/x-www-form-urlencoded"

_COOKIE = Cookie("form")
_LOCAL = re.compile(r"/(?:[!-.0-\[\]-~][!-\[\]-~]{0,2046})?")
"""A path here: it begins with one slash, and has no backslash, which browsers take for one."""


def token_of(request: web.Request) -> str:
    """The text for this browser's forms, a new one if it has none yet."""
    return _COOKIE.read(request) or new_secret()


def keep_token(request: web.Request, response: web.StreamResponse, token: str) -> None:
    _COOKIE.write(request, response, token, SECONDS)


def forget_token(request: web.Request, response: web.StreamResponse) -> None:
    """After somebody signed in, forms have another one."""
    _COOKIE.write(request, response, "", 0)


async def read_form(request: web.Request, known: Collection[str]) -> Mapping[str, str]:
    """The fields of a form on a page of ours, all of which are `known`.

    Raises SignInFailed for any other page's, and TokenRequestInvalid.
    """
    if request.content_type != TYPE:
        raise TokenRequestInvalid(f"Content-Type {quote(request.content_type)}: expected {TYPE}")
    body = await read_limited(request, LARGEST, request.app[SETTINGS].stall_seconds)
    try:
        found = parse_qs(body.decode(), max_num_fields=MOST_FIELDS, keep_blank_values=True)
    except ValueError:
        raise TokenRequestInvalid(f"the body is not a form of at most {MOST_FIELDS} fields in UTF-8") from None
    if any(len(values) > 1 for values in found.values()):
        raise TokenRequestInvalid("the form has a field twice")
    fields = {name: values[0] for name, values in found.items()}
    for name in fields.keys() - {FIELD, *known}:
        raise TokenRequestInvalid(f"the form has no field {quote(name)}")
    expected, sent = _COOKIE.read(request) or "", fields.pop(FIELD, "")
    if not expected or not hmac.compare_digest(expected.encode(), sent.encode()):
        raise SignInFailed(
            "this form is older than an hour, or was not made for this browser; open the page again, and allow cookies"
        )
    return fields


def next_page(request: web.Request, text: str) -> str:
    """The page to go on to, as a path here."""
    return local_page(text, request.app[PROXIES].base_url(request))


def local_page(text: str, base: str | None) -> str:
    """The page as a path; the first one for anything that may lead away from `base`, the address of this server.

    conda-store's interface names its page by its whole address.
    """
    if base is not None and text.startswith(f"{base}/"):
        text = text.removeprefix(base)
    return text if _LOCAL.fullmatch(text) else "/"
