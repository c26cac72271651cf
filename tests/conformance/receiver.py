"""A real HTTP server on loopback that takes what destinations send, and answers as it is told."""

from __future__ import annotations

import gzip
import json
import threading
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Received:
    """One request as it came over the wire; its body is unzipped."""

    method: str
    path: str
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """An answer to give."""

    status: int = 200
    body: bytes = b'{"success":true}'
    headers: dict[str, str] = field(default_factory=dict)


class Receiver:
    """A server for all vendors at once: their paths do not collide.

    Example:
        with Receiver() as receiver:
            client = Client(Settings.from_mapping({"destinations": receiver.destinations()}))
            ...
            assert receiver.take()[0].path == "/v1/batch"
    """

    def __init__(self) -> None:
        self._received: list[Received] = []
        self._replies: dict[str, deque[Reply]] = defaultdict(deque)
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10

            def do_POST(self) -> None:
                reply = receiver._receive(self)
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            do_GET = do_DELETE = do_POST  # noqa: N815  # names of the standard library

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def destinations(self) -> dict[str, dict[str, Any]]:
        """Options for the four vendors, all served here."""
        return {
            "sessionsight": {
                "secret_api_key": "sessionsight_sec_1",
                "property_id": "prop_1",
                "api_url": self.url,
                "flags_timeout": 10.0,
            },
            "signal": {"api_key": "signal_1", "project_id": "shop", "endpoint": self.url},
            "saytics": {"secret_key": "sk_live_1", "api_url": self.url},
            "analyse": {"public_key": "pk_live_1", "host": self.url},
        }

    def script(self, path: str, replies: Iterable[Reply]) -> None:
        """Answer the next requests to this path so; afterwards with 200 again."""
        with self._lock:
            self._replies[path].extend(replies)

    def take(self) -> list[Received]:
        """Return the requests since the last call."""
        with self._lock:
            taken, self._received = self._received, []
            return taken

    def _receive(self, handler: BaseHTTPRequestHandler) -> Reply:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if handler.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        with self._lock:
            self._received.append(Received(handler.command, handler.path, headers, body))
            replies = self._replies[handler.path]
            return replies.popleft() if replies else Reply()
