"""A name server that answers what a test tells it to."""

from __future__ import annotations

import socket

from aiohttp.abc import AbstractResolver, ResolveResult


class Answers(AbstractResolver):
    """A name server that gives one address after the other."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address = self.addresses.pop(0)
        return [{"hostname": host, "host": address, "port": port, "family": family, "proto": 0, "flags": 0}]

    async def close(self) -> None: ...
