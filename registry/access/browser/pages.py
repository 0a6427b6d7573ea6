"""The pages for signing in, as the route table names them. One client may ask for so many of them a minute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from aiohttp import web
from aiohttp.typedefs import Handler

from registry.access.browser.device import DevicePages
from registry.access.browser.login import LoginPage
from registry.access.browser.provider import ProviderSignIns
from registry.access.per_minute import PerMinute
from registry.errors import RouteUnknown
from registry.parts import PARTS, PROXIES, BrowserPage
from registry.peers.networks import client_of


@dataclass(frozen=True)
class BrowserPages:
    """`registry.parts.BrowserPages`, for all requests of one process."""

    pages: Mapping[BrowserPage, Handler]
    rate: PerMinute
    """Of all these pages together."""

    @classmethod
    def of(cls, login: LoginPage, devices: DevicePages, provider: ProviderSignIns | None, rate: PerMinute) -> Self:
        """`provider` is None if people sign in at none."""
        pages: dict[BrowserPage, Handler] = {
            "show login": login.show,
            "log in": login.log_in,
            "log out": login.log_out,
            "begin device": devices.begin,
            "show device": devices.show,
            "answer device": devices.answer,
        }
        if provider is not None:
            pages |= {"begin at provider": provider.begin, "finish at provider": provider.finish}
        return cls(pages, rate)

    async def answer(self, page: BrowserPage, request: web.Request) -> web.StreamResponse:
        self.rate.take(client_of(request.app[PROXIES].client(request)))
        handler = self.pages.get(page)
        if handler is None:
            raise RouteUnknown(request.rel_url.raw_path)
        return await handler(request)


def answer_with(page: BrowserPage) -> Handler:
    """The handler of a row of the route table."""

    async def answer(request: web.Request) -> web.StreamResponse:
        pages = request.app[PARTS].browsers
        if pages is None:
            raise RouteUnknown(request.rel_url.raw_path)
        return await pages.answer(page, request)

    return answer


show_login = answer_with("show login")
log_in = answer_with("log in")
log_out = answer_with("log out")
begin_at_provider = answer_with("begin at provider")
finish_at_provider = answer_with("finish at provider")
begin_device = answer_with("begin device")
show_device = answer_with("show device")
answer_device = answer_with("answer device")
