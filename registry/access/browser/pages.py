"""The pages for signing in, as the route table names them. One client may ask for so many of them a minute."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from registry import parts
from registry.access.browser.device import DevicePages
from registry.access.browser.login import LoginPage
from registry.access.browser.provider import ProviderSignIns
from registry.access.oauth_form import read_form, read_one
from registry.access.rates import Rate
from registry.errors import RouteUnknown
from registry.parts import PARTS, PROXIES
from registry.peers.networks import client_of


@dataclass(frozen=True)
class BrowserPages:
    """`registry.parts.BrowserPages`, for all requests of one process."""

    login: LoginPage
    devices: DevicePages
    provider: ProviderSignIns | None
    """None if people sign in at none."""
    rate: Rate

    async def show_login(self, request: web.Request) -> web.Response:
        return await self.login.show(request)

    async def log_in(self, request: web.Request) -> web.Response:
        return await self.login.log_in(request)

    async def log_out(self, request: web.Request) -> web.Response:
        return await self.login.log_out(request)

    async def begin_at_provider(self, request: web.Request) -> web.Response:
        return await self._at_provider(request).begin(request)

    async def finish_at_provider(self, request: web.Request) -> web.Response:
        return await self._at_provider(request).finish(request)

    async def begin_device(self, request: web.Request) -> web.Response:
        fields = await read_form(request)
        return await self.devices.begin(request, {name: read_one(fields, name) for name in fields})

    async def show_device(self, request: web.Request) -> web.Response:
        return await self.devices.show(request)

    async def answer_device(self, request: web.Request) -> web.Response:
        return await self.devices.answer(request)

    def _at_provider(self, request: web.Request) -> ProviderSignIns:
        if self.provider is None:
            raise RouteUnknown(request.rel_url.raw_path)
        return self.provider


async def show_login(request: web.Request) -> web.StreamResponse:
    return await _pages(request).show_login(request)


async def log_in(request: web.Request) -> web.StreamResponse:
    return await _pages(request).log_in(request)


async def log_out(request: web.Request) -> web.StreamResponse:
    return await _pages(request).log_out(request)


async def begin_at_provider(request: web.Request) -> web.StreamResponse:
    return await _pages(request).begin_at_provider(request)


async def finish_at_provider(request: web.Request) -> web.StreamResponse:
    return await _pages(request).finish_at_provider(request)


async def begin_device(request: web.Request) -> web.StreamResponse:
    return await _pages(request).begin_device(request)


async def show_device(request: web.Request) -> web.StreamResponse:
    return await _pages(request).show_device(request)


async def answer_device(request: web.Request) -> web.StreamResponse:
    return await _pages(request).answer_device(request)


def _pages(request: web.Request) -> parts.BrowserPages:
    """Raises TooManyRequests, and RouteUnknown where there are no pages."""
    pages = request.app[PARTS].browsers
    if pages is None:
        raise RouteUnknown(request.rel_url.raw_path)
    pages.rate.take(client_of(request.app[PROXIES].client(request)))
    return pages
