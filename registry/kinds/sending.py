"""Sends a file that is made when somebody first asks for it.

The beginning of a file is unknown before it is made, so waiting differs from that of a pull: after `answer_within` the
answer is 503 with Retry-After. `curl --retry`, wget and most HTTP libraries then try again, and unlike a 202, none of
them saves it as if it were the file.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable
from urllib.parse import quote

from aiohttp import web

from builder.artifacts.artifact import Artifact
from builder.ticket import Ticket
from registry.errors import StillBuilding
from registry.http.manifests import stale_warnings
from registry.http.transfer import send_content
from registry.kinds.waiting import wait_a_while
from registry.parts import PARTS, SETTINGS

_LOCK = re.compile(r"-[0-9a-f]{12}[-.](?!.*-[0-9a-f]{12}[-.])")
"""The last one: a package may be called so."""


async def send_file(
    request: web.Request, name: str, asking: Awaitable[Ticket[Artifact]], *, stem: str = ""
) -> web.StreamResponse:
    """Send a file, to be saved under a name that begins with `stem` rather than with the packages that it is about.

    Raises StillBuilding, and what `asking` does.
    """
    ticket, artifact = await wait_a_while(request, asking)
    if artifact is None:
        raise StillBuilding(name, ticket.build_id)
    headers = {
        "Content-Type": content_type(artifact.media_type),
        "Content-Disposition": disposition(begin_with(stem, artifact.file_name)),
        # a tag may mean something else tomorrow; the entity tag makes asking again cheap
        "Cache-Control": "no-cache",
    }
    if ticket.stale is not None:
        headers["Warning"] = ", ".join(stale_warnings(ticket.stale))
    blobs, settings = request.app[PARTS].blobs, request.app[SETTINGS]
    blob = await blobs.find(artifact.digest)
    return await send_content(request, blobs, blob, headers, stall_seconds=settings.stall_seconds)


def begin_with(stem: str, file_name: str) -> str:
    """Put `stem` before the lock's digits in a name that `builder.artifacts.artifact.suggest_file_name` made."""
    found = _LOCK.search(file_name)
    return f"{stem}{file_name[found.start() :]}" if stem and found else file_name


def content_type(media_type: str) -> str:
    """The Content-Type; all our text is UTF-8, which a text/* type has to state (RFC 6657)."""
    return f"{media_type}; charset=utf-8" if media_type.startswith("text/") and ";" not in media_type else media_type


def disposition(file_name: str) -> str:
    """Content-Disposition for a download (RFC 6266)."""
    plain = "".join(each if each.isascii() and (each.isalnum() or each in "._-+ ") else "_" for each in file_name)
    extended = f"; filename*=UTF-8''{quote(file_name, safe='')}" if plain != file_name else ""
    return f'attachment; filename="{plain}"{extended}'
