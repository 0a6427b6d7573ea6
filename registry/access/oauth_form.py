"""Forms as programs send them to OAuth's endpoints (RFC 6749, appendix B).

Fields that are not known are left out, as section 3.2 there wants it: programs send those of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs

from aiohttp import web

from registry.errors import TokenRequestInvalid
from registry.http.intake import read_limited
from registry.parts import SETTINGS
from storage.errors import quote

LARGEST = 64 << 10
"""Bytes of a form."""
MOST_FIELDS = 100
FORM = "application/x-www-form-urlencoded"

Fields = Mapping[str, Sequence[str]]


async def read_form(request: web.Request) -> Fields:
    """The fields of the body. Raises TokenRequestInvalid, BodyTooLarge, BodyBroken."""
    if request.content_type != FORM:
        raise TokenRequestInvalid(f"Content-Type {quote(request.content_type)}: expected {FORM}")
    body = await read_limited(request, LARGEST, request.app[SETTINGS].stall_seconds)
    try:
        return parse_qs(body.decode(), max_num_fields=MOST_FIELDS)
    except ValueError:
        raise TokenRequestInvalid(f"the body is not a form of at most {MOST_FIELDS} fields in UTF-8") from None


def read_one(fields: Fields, name: str) -> str:
    """The value of a field, or nothing. Raises TokenRequestInvalid if there are several."""
    values = fields.get(name, ())
    if len(values) > 1:
        raise TokenRequestInvalid(f"field {name} is given {len(values)} times")
    return values[0] if values else ""
