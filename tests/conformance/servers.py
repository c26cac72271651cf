"""Real servers in threads: whatever app is put into them is served, and they say when a request is over."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import uvicorn

DEADLINE = 10.0


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]


class Served:
    """One server. `app` may be changed between requests."""

    def __init__(self, port: int) -> None:
        self.app: Any = None
        self.on_body: Callable[[], object] = lambda: None
        """Called when the client has the whole body, whatever the server still does."""
        self.port = port
        self._over = threading.Semaphore(0)

    def over(self) -> None:
        """The server is done with a request."""
        self._over.release()

    def send(self, path: str, headers: tuple[tuple[str, str], ...] = (), *, method: str = "GET") -> Answer:
        """Make a request with exactly these headers, and wait until the server is done with it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in (("Host", "shop.example"), ("User-Agent", "Browser/1.0"), *headers):
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            answer = Answer(response.status, response.read(), {k.lower(): v for k, v in response.getheaders()})
            self.on_body()
        finally:
            connection.close()
        assert self._over.acquire(timeout=DEADLINE), "the app did not return"
        return answer


class _ThreadingWSGIServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass

    def get_stderr(self) -> Any:
        return _Nowhere()


class _Nowhere:
    def write(self, text: str) -> None:
        pass

    def flush(self) -> None:
        pass


@contextmanager
def wsgi_server() -> Iterator[Served]:
    """Python's own WSGI server, with a thread for each request."""
    server = _ThreadingWSGIServer(("127.0.0.1", 0), _Quiet)
    served = Served(server.server_port)

    def app(environ: Any, start_response: Any) -> Any:
        try:
            body = served.app(environ, start_response)
        except BaseException:
            served.over()
            raise
        return _Watched(body, served)

    server.set_app(app)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Watched:
    def __init__(self, body: Any, served: Served) -> None:
        self._body = body
        self._served = served

    def __iter__(self) -> Any:
        return iter(self._body)

    def close(self) -> None:
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        finally:
            self._served.over()


@contextmanager
def asgi_server() -> Iterator[Served]:
    """uvicorn."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    served = Served(listening.getsockname()[1])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await served.app(scope, receive, send)
        finally:
            served.over()

    server = uvicorn.Server(uvicorn.Config(app, log_level=100, lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    deadline = time.monotonic() + DEADLINE
    while not server.started:
        assert time.monotonic() < deadline, "uvicorn did not start"
        time.sleep(0.005)
    try:
        yield served
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
