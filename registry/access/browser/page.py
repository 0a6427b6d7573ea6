"""Pages for people who sign in. They have no script, no other page can show them in a frame, and nobody keeps them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape

from aiohttp import web

_STYLE = """\
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 26rem; margin: 10vh auto; padding: 0 1rem }
label { display: block; margin: 1rem 0 }
input { display: block; width: 100%; box-sizing: border-box; font: inherit; padding: .4rem }
button { font: inherit; padding: .4rem 1rem; margin-right: .5rem }
.problem { border-left: .3rem solid #b00; padding-left: .7rem }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

UNKEPT: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_HEADERS: Mapping[str, str] = {
    **UNKEPT,
    "Content-Type": "text/html; charset=utf-8",
    # with no-referrer a browser would not say whose page has sent our own forms
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
}


def page(title: str, body: str, *, status: int = 200) -> web.Response:
    """`title` is text, and `body` is HTML."""
    text = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )
    return web.Response(status=status, body=text.encode(), headers=_HEADERS)


def form(action: str, hidden: Mapping[str, str], body: str) -> str:
    """A form that sends `hidden` besides what people fill in."""
    fields = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(text)}">' for name, text in hidden.items()
    )
    return f'<form method="post" action="{escape(action)}">{fields}\n{body}\n</form>'


def field(label: str, name: str, more: str) -> str:
    """`more` is further attributes, as HTML."""
    return f'<label>{escape(label)}<input name="{escape(name)}" {more}></label>'


def problem(text: str) -> str:
    return f'<p class="problem" role="alert">{escape(text)}</p>' if text else ""


def redirect(url: str) -> web.Response:
    return web.Response(status=303, headers={"Location": url, **UNKEPT})
