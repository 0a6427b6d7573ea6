"""aiohttp's connections to addresses that a guard admits.

Apart from the guard itself, which processes use that connect to nobody: aiohttp takes as long to import as all that
the solver's process needs beside it.
"""

from __future__ import annotations

import socket

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from builder.network.addresses import AddressGuard
from builder.network.look_ups import ThreadsResolver


class GuardedResolver(AbstractResolver):
    """Looks names up with `resolver`, and returns only what the guard admits."""

    def __init__(self, guard: AddressGuard, resolver: AbstractResolver) -> None:
        self._guard = guard
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve a host. Raises InternalAddress."""
        found = await self._resolver.resolve(host, port, family)
        self._guard.check(host, port, [each["host"] for each in found])
        return found

    async def close(self) -> None:
        await self._resolver.close()


def make_connector(
    guard: AddressGuard, resolver: AbstractResolver | None = None, *, limit: int = 0
) -> aiohttp.TCPConnector:
    """Make aiohttp's connector, which connects only to checked addresses.

    For hosts that are addresses, use `check_host`.
    """
    return aiohttp.TCPConnector(resolver=GuardedResolver(guard, resolver or ThreadsResolver()), limit=limit)
