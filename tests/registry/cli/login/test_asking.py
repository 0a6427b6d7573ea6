"""What a server says to a command that has sent it a secret."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from urllib.parse import quote

import pytest
from aiohttp import encode_basic_auth, web
from aiohttp.test_utils import TestServer
from yarl import URL

from registry.cli.asking import LoginFailed, check_done, send

SECRET = "s3cret/of somebody"


@pytest.mark.parametrize("field", ["message", "error_description"])
@pytest.mark.parametrize(
    ("headers", "form"),
    [
        ({"Authorization": encode_basic_auth("me", SECRET, "utf-8")}, {}),
        ({"Authorization": f"Bearer {quote(SECRET)}"}, {}),
        ({}, {"device_code": SECRET}),
    ],
)
async def test_a_server_that_repeats_what_it_got_shows_no_secret(
    headers: Mapping[str, str], form: Mapping[str, str], field: str
) -> None:
    async def repeat(request: web.Request) -> web.Response:
        shown = request.headers.get("Authorization", "")
        code = str((await request.post()).get("device_code"))
        told = f"no: {shown} {SECRET if shown.startswith('Basic') else ''} {code}"
        return web.json_response({field: told, "data": None}, status=403)

    app = web.Application()
    app.router.add_post("/token", repeat)
    async with TestServer(app, host="127.0.0.1") as server:
        url = server.make_url("/token")
        status, document = await send("POST", url, headers, form=form or None)
        with pytest.raises(LoginFailed, match=r"says 403: no: .*\*\*\*") as caught:
            check_done(url, status, document)
    pair = base64.b64encode(f"me:{SECRET}".encode()).decode()
    for each in (SECRET, quote(SECRET), pair, pair[4:-4]):
        assert each not in str(caught.value)


def test_what_is_no_text_is_not_shown() -> None:
    with pytest.raises(LoginFailed, match="says 403: it is no condery, or redirects"):
        check_done(URL("http://localhost/"), 403, {"message": {"you sent": SECRET}})
