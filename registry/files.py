"""Files beside images: `GET /files/<repository>/<tag>/<name>`, for people with curl.

They share the single flight of a pull.
"""

from __future__ import annotations

from aiohttp import web

from registry.http.references import Target, check_tag
from registry.kinds.kind import KIND
from registry.kinds.sending import send_file


async def get_file(request: web.Request, target: Target) -> web.StreamResponse:
    text, _, name = target.reference.partition("/")
    repository, tag = target.repository, check_tag(text)
    kind = request[KIND]
    asking = kind.find_file(request, repository, tag, name)
    return await send_file(request, name, asking, stem=kind.file_stem(repository))
