"""A proxy between a client and a server, which a test lets fail."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import Any, Self

from tests.support.ports import free_port
from tests.support.server import PATIENCE

__all__ = ["TcpProxy"]


class TcpProxy:
    """Passes everything on to a server, unless a test has it refuse, hold or lose something.

    Args:
        host: The server.
        port: Its port.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._passes = threading.Event()
        self._passes.set()
        self._needle = b""
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.port = free_port()  # which stays free while the proxy refuses connections
        self.accept()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self.refuse()
        for thread in self._threads:
            thread.join(PATIENCE)

    def refuse(self) -> None:
        """Close all connections, and refuse new ones, as a server that is down."""
        with contextlib.suppress(OSError):  # it is closed
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Close all connections."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def accept(self) -> None:
        """Accept connections, on the same port each time."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._start(self._accept, self._listener)

    def hold(self) -> None:
        """Accept everything, and pass nothing on, as a server that hangs."""
        self._passes.clear()

    def release(self) -> None:
        """Pass on what was held."""
        self._passes.set()

    def lose_answer(self, needle: bytes) -> None:
        """Pass on the next request that contains these bytes, and close its connection instead of the answer."""
        self._needle = needle

    def _start(self, target: Any, *arguments: Any) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it is closed
            while True:
                self._start(self._pass_on, listener.accept()[0])

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._server) as server, contextlib.suppress(OSError):
            self._open.add(client)
            loses = False
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(1 << 20)
                    self._passes.wait()
                    if not data or (loses and source is server):
                        self._open.discard(client)
                        return
                    if source is client and self._needle and self._needle in data:
                        loses, self._needle = True, b""
                    (server if source is client else client).sendall(data)
