"""Which requests a folder gets, whatever the path below it is."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from yarl import URL

from registry.http.folder import Folder


async def say(request: web.Request) -> web.StreamResponse:
    return web.Response(text=request.rel_url.raw_path)


async def plain(_request: web.Request) -> web.StreamResponse:
    return web.Response(text="plain")


@pytest.fixture
def router() -> web.UrlDispatcher:
    app = web.Application()
    app.router.register_resource(Folder("/v2/", say))
    app.router.add_route("*", "/v2", plain)
    app.router.add_route("*", "/other", plain)
    return app.router


@pytest.mark.parametrize(
    ("path", "handler"),
    [
        ("/v2/", say),
        ("/v2/a/manifests/latest", say),
        ("/v2//", say),
        ("/v2/a%2Fb/tags/list", say),
        ("/v2/%0A/x", say),
        ("/v2/a/../../other", say),
        ("/v2", plain),
        ("/v2x/a", None),
        ("/", None),
        ("/V2/a", None),
        ("//v2/a", None),
        ("/%76%32/", say),
        ("/v2%2Fa", None),
        ("/other/v2/a", None),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS", "TRACE", "ANYTHING"])
async def test_whose_a_path_is(router: web.UrlDispatcher, method: str, path: str, handler: object) -> None:
    match = await router.resolve(make_mocked_request(method, path))
    if handler is None:
        assert match.http_exception is not None
        assert match.http_exception.status == 404
    else:
        assert match.http_exception is None
        assert match.handler is handler


def test_it_is_found_by_its_beginning(router: web.UrlDispatcher) -> None:
    folder = next(each for each in router.resources() if isinstance(each, Folder))
    assert [route.method for route in folder] == ["*"]
    assert len(folder) == 1
    assert folder.url_for(path="a/b") == URL("/v2/a/b")
    with pytest.raises(NotImplementedError):
        folder.add_prefix("/sub")
