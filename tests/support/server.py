"""A vendor for tests: a real HTTP server on this machine that answers as it is told, or worse.

    with Server() as server:
        server.will(reply(503, {"Retry-After": "1"}), reset(), reply(200))
        ...
        server.wait_for(3)

It speaks over plain sockets, since half of what a client must survive is not HTTP.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

PATIENCE = 20.0
"""Seconds after which something that a test waits for has failed to happen."""


class Request(NamedTuple):
    """Received request."""

    method: str
    target: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    connection: int
    """The how-manieth connection it came by, from 0."""

    @property
    def json(self) -> Any:
        packed = self.headers.get("content-encoding") == "gzip"
        return json.loads(gzip.decompress(self.body) if packed else self.body)


Answer = Callable[[socket.socket, "Server"], bool]
"""Does something with the connection; says whether it may be used again."""


def reply(status: int = 200, headers: Mapping[str, str] | None = None, body: bytes = b"{}") -> Answer:
    """An ordinary reply."""

    def answer(connection: socket.socket, server: Server) -> bool:
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        return True

    return answer


def raw(data: bytes) -> Answer:
    """These bytes, and the end of the connection."""

    def answer(connection: socket.socket, server: Server) -> bool:
        connection.sendall(data)
        return False

    return answer


def reset(data: bytes = b"") -> Answer:
    """A TCP reset, after these bytes."""

    def answer(connection: socket.socket, server: Server) -> bool:
        connection.sendall(data)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    return answer


def silence(data: bytes = b"") -> Answer:
    """Nothing after these bytes, until the server is closed or released."""

    def answer(connection: socket.socket, server: Server) -> bool:
        connection.sendall(data)
        server.released.wait()
        return False

    return answer


def drip(head: bytes, drop: bytes) -> Answer:
    """Some bytes, then ever more drops, until the client hangs up or the server is closed."""

    def answer(connection: socket.socket, server: Server) -> bool:
        connection.sendall(head)
        while not server.released.wait(0.01):
            connection.sendall(drop)
        return False

    return answer


def after(event: threading.Event | threading.Barrier, then: Answer) -> Answer:
    """The answer, once the event is set, or the barrier full."""

    def answer(connection: socket.socket, server: Server) -> bool:
        event.wait(PATIENCE)
        return then(connection, server)

    return answer


class Server:
    """Listens on 127.0.0.1.

    Args:
        port: A free one by default.
        tls: Speak TLS by this context.
        answer: What requests get that `will` says nothing about.
        decide: Chooses that answer by the request.
        greeting: What a connection gets before anything is read from it.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        answer: Answer | None = None,
        decide: Callable[[Request], Answer] | None = None,
        greeting: Answer | None = None,
    ) -> None:
        self.answer = answer or reply(200)
        self.decide = decide or (lambda request: self.answer)
        self._greeting = greeting
        self.requests: list[Request] = []
        self.connections = 0
        self.released = threading.Event()
        self._script: deque[Answer] = deque()
        self._tls = tls
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up, and listen no more."""
        self.released.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._changed:
            left = list(self._open)
        for connection in left:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def will(self, *answers: Answer) -> None:
        """Answer the next requests so."""
        self._script.extend(answers)

    def wait_for(self, number: int) -> list[Request]:
        """Wait until so many requests have arrived."""
        self.wait_until(lambda: len(self.requests) >= number, f"{number} requests")
        return self.requests[:number]

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something is so; looked at whenever something happens here."""
        with self._changed:
            if not self._changed.wait_for(condition, PATIENCE):
                raise AssertionError(f"timed out waiting for {what}; there are {len(self.requests)} requests")

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                number = self.connections
                self.connections += 1
                self._changed.notify_all()
            threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError, ValueError), connection:  # ValueError: no HTTP
            if self._greeting is not None and not self._greeting(connection, self):
                return
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with self._changed:
                self._open.add(connection)
            try:
                with connection, connection.makefile("rb") as stream:
                    for request in _requests(stream, number):
                        with self._changed:
                            self.requests.append(request)
                            answer = self._script.popleft() if self._script else self.decide(request)
                            self._changed.notify_all()
                        if not answer(connection, self):
                            return
            finally:
                with self._changed:
                    self._open.discard(connection)
                    self._changed.notify_all()


def _requests(stream: Any, number: int) -> Iterator[Request]:
    while line := stream.readline():
        method, target, _ = line.decode("latin-1").split(" ", 2)
        headers: dict[str, str] = {}
        while (line := stream.readline()) not in {b"\r\n", b""}:
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        body = stream.read(int(headers.get("content-length", "0")))
        yield Request(method, target, headers, body, number)


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until something is so that nobody announces."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"timed out waiting until {what}")
        time.sleep(0.002)


async def auntil(condition: Callable[[], bool], what: str) -> None:
    """As `until`, on an event loop; the condition is asked on a worker thread, so that it may block."""
    import anyio

    deadline = time.monotonic() + PATIENCE
    while not await anyio.to_thread.run_sync(condition):
        assert time.monotonic() < deadline, f"not in time: {what}"
        await anyio.sleep(0.005)
