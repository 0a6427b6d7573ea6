"""Where a server listens; apart from the server, so that a process that only supervises servers stays small."""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass

from storage.errors import ConderyError
from storage.text import printable_line


class CannotListen(ConderyError):
    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"cannot listen on {host}:{port}: {reason}; choose another --port or --host")


def check_free(host: str, port: int) -> None:
    """Raises CannotListen if a server cannot listen there now."""
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind, protocol) as probe:
                # as servers do: a connection that has ended does not keep the port
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(address)
    except OSError as error:
        raise CannotListen(host, port, error.strerror or str(error)) from error


@dataclass(frozen=True)
class Listening:
    """Where a server listens, and the first part of its images' names."""

    host: str
    port: int
    root: str
    secure: bool = False
    """Whether it speaks https instead of http."""
    obstacle: str | None = None
    """Why nothing can be built yet."""

    @property
    def address(self) -> str:
        """`host:port` as a client on this machine would write it."""
        anywhere = {"0.0.0.0": "localhost", "::": "localhost", "127.0.0.1": "localhost"}  # noqa: S104 - not bound to here
        host = anywhere.get(self.host, self.host)
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


def announce(listening: Listening) -> None:
    """Print one line: where the server listens and what to pull, or why that would be in vain."""
    image = f"{listening.address}/{listening.root}/python/numpy/scipy.gt.1.0"
    scheme = "https" if listening.secure else "http"
    then = printable_line(listening.obstacle) if listening.obstacle else f"try: docker pull {image}"
    sys.stdout.write(f"condery listens on {scheme}://{listening.address}; {then}\n")
    sys.stdout.flush()
