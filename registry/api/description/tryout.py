"""The page to try the REST API: one form for each operation, made of the description.

Its style and its script are in it, and nothing else of any host runs or loads. The script only sends what the forms
say to this very server, as whoever is signed in, and shows the answers as text.
"""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

import orjson

from registry.answers import PAGE_HEADERS


def _read(name: str) -> str:
    return (files(__package__) / name).read_text()


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


_STYLE, _SCRIPT = _read("tryout.css"), _read("tryout.js")

HEADERS: Mapping[str, str] = {
    **PAGE_HEADERS,
    "Content-Type": "text/html; charset=utf-8",
    # with no-referrer a browser would not say whose page sends a request
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_hash(_STYLE)}'; "
    f"script-src 'sha256-{_hash(_SCRIPT)}'; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'",
}


def write_page(description: Mapping[str, Any]) -> bytes:
    by_tag: dict[str, list[str]] = defaultdict(list)
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            by_tag[operation["tags"][0]].append(_write_operation(path, method.upper(), operation))
    operations = "\n".join(f"<h2>{escape(tag)}</h2>\n{''.join(each)}" for tag, each in by_tag.items())
    shapes = "\n".join(
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>{_write_json(schema)}</details>'
        for name, schema in description["components"]["schemas"].items()
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>REST API</title><style>{_STYLE}</style></head>\n<body><h1>REST API</h1>\n"
        f"<p>{escape(description['info']['description'])}</p>\n"
        '<p>The same for programs: <a href="/api/openapi.json">/api/openapi.json</a>. Requests from this page are sent '
        'as whoever is <a href="/login">signed in</a>, or with this token:</p>\n'
        '<label>Access token<input id="token" type="password" autocomplete="off"></label>\n'
        f"{operations}\n<h2>Shapes</h2>\n{shapes}\n<script>{_SCRIPT}</script></body></html>\n"
    ).encode()


def _write_operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    fields = "".join(_write_field(each) for each in operation.get("parameters", ()))
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        fields += f"<label>Body, as JSON<textarea spellcheck=false>{{}}</textarea></label>{_write_json(schema)}"
    needed = operation["x-permission"]
    if "x-entity" in operation:
        needed += f" on {operation['x-entity']}"
    return (
        f'<details id="{escape(operation["operationId"])}"><summary><code>{method} {escape(path)}</code> '
        f"{escape(operation['summary'])}</summary>\n<p>Needs: <code>{escape(needed)}</code></p>\n"
        f'<form data-method="{method}" data-path="{escape(path)}">{fields}<button>Send</button>'
        f"<output><pre></pre></output></form>\n<p>Answers:</p>{_write_answers(operation['responses'])}</details>\n"
    )


def _write_field(parameter: Mapping[str, Any]) -> str:
    name, place, schema = parameter["name"], parameter["in"], parameter["schema"]
    many = " data-list=1" if schema.get("type") == "array" else ""
    about = parameter.get("description") or schema.get("description") or ""
    choices = f"one of {', '.join(map(str, schema['enum']))}" if "enum" in schema else ""
    label = ": ".join(part for part in (name, ", ".join(part for part in (about, choices) if part)) if part)
    required = " required" if parameter["required"] else ""
    return f'<label>{escape(label)}<input name="{escape(name)}" data-in="{place}"{many}{required}></label>'


def _write_answers(responses: Mapping[str, Any]) -> str:
    content: Mapping[str, Any] = responses["200"]["content"]
    return "".join(
        f"<p><code>{escape(media_type)}</code></p>{_write_json(each['schema']) if 'schema' in each else ''}"
        for media_type, each in content.items()
    )


def _write_json(schema: Mapping[str, Any] | Sequence[Any]) -> str:
    return f"<pre>{escape(orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode())}</pre>"
