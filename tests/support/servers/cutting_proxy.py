"""A TCP proxy that breaks connections at a chosen place, as networks do."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class CuttingProxy:
    """Passes everything on to `port` of this machine until told to cut."""

    port: int
    address: tuple[str, int] = ("", 0)
    _request: bytes = b""
    _after: int = 0
    cuts: int = 0
    """How many connections were cut."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.address[1]}"

    def cut(self, request: bytes, *, after: int = 0) -> None:
        """Cut the next connection that carries `request`, once `after` bytes of the answer have been passed on.

        The server gets the whole request, and the proxy waits for its answer, so the request takes effect.
        """
        with self._lock:
            self._request, self._after = request, after

    def serve(self, client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as server:
            budget: list[int | None] = [None]
            sender = threading.Thread(target=self._requests, args=(client, server, budget))
            sender.start()
            self._answers(client, server, budget)
            for each in (client, server):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            sender.join()

    def _requests(self, client: socket.socket, server: socket.socket, budget: list[int | None]) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                with self._lock:
                    if self._request and self._request in data:
                        self._request, budget[0] = b"", self._after
                server.sendall(data)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _answers(self, client: socket.socket, server: socket.socket, budget: list[int | None]) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                left = budget[0]
                if left is None or data.startswith(b"HTTP/1.1 100 "):
                    client.sendall(data)
                    continue
                client.sendall(data[:left])
                budget[0] = left = max(left - len(data), 0)
                if not left:
                    self.cuts += 1
                    return


@contextlib.contextmanager
def cutting_proxy(port: int) -> Iterator[CuttingProxy]:
    """Run a proxy for `port` while the block runs."""
    proxy = CuttingProxy(port)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            proxy.serve(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        proxy.address = server.server_address  # type: ignore[assignment] # an IPv4 server's
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
