"""Who counts as one sender, and how many requests each may send.

Somebody who is signed in counts by name, whatever the address: many stand behind one. The workloads that one rule lets
in count as one, since each branch and pod has a name of its own. Everybody else counts by address, and an IPv6 /64 as
one. A request counts once it is sure to be served, so an answer of 401 does not: it costs as little as the refusal
would, and nobody can keep those out who share their address and are about to sign in.
"""

from __future__ import annotations

import math

from aiohttp import web

from auth.principal import Principal
from builder.work.buckets import Buckets
from builder.work.claims import Caller
from registry.errors import TooManyRequests
from registry.http.settings import HttpSettings
from registry.observer import PRINCIPAL
from registry.parts import PROXIES
from registry.peers.networks import client_of

BURST_SECONDS = 10
"""A sender who was silent may send as many requests at once as in this time: a pull comes all at once."""


class Rates:
    """The requests of all senders to one process. A rate of 0 is no limit."""

    def __init__(self, signed_in: float, anonymous: float) -> None:
        """Rates are in requests a second."""
        self._signed_in = _open(signed_in)
        self._anonymous = _open(anonymous)

    def count(self, sender: Caller) -> None:
        """Count a request. Raises TooManyRequests."""
        buckets = self._signed_in if sender.signed_in else self._anonymous
        if buckets is not None and (seconds := buckets.take(sender)):
            raise TooManyRequests(sender.name, math.ceil(seconds))


RATES = web.AppKey[Rates | None]("rates")
"""None if nothing is limited."""


def open_rates(settings: HttpSettings) -> Rates | None:
    """What counts requests; None if nothing is limited, so that it costs nothing."""
    signed_in, anonymous = settings.requests_per_second, settings.anonymous_requests_per_second
    return Rates(signed_in, anonymous) if signed_in or anonymous else None


def caller_of(request: web.Request, principal: Principal | None = None) -> Caller:
    """Who sent the request, for counting: that is `principal`, if the request does not say so itself."""
    principal = principal or request[PRINCIPAL]
    if principal.kind == "workload" and principal.rules:
        # by name somebody who may make branches or pods would be as many senders as there are of those
        return Caller(f"workloads of rule {principal.rules[0]}", signed_in=True)
    if principal.kind != "anonymous":
        return Caller(principal.name, signed_in=True)
    return Caller(client_of(request.app[PROXIES].client(request)))


def count_request(request: web.Request, principal: Principal | None = None) -> None:
    """Count a request that is going to be served. Raises TooManyRequests."""
    rates = request.app[RATES]
    if rates is not None:
        rates.count(caller_of(request, principal))


def _open(rate: float) -> Buckets | None:
    return Buckets(rate, max(1.0, rate * BURST_SECONDS)) if rate else None
