"""Serves the metrics of a client in Prometheus' text format, on a thread."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

import click

from sessionsight.client import Client
from sessionsight.metrics import PROMETHEUS_CONTENT_TYPE, prometheus_text

__all__ = ["serve_metrics"]

# Seconds that the end of the server may take.
_POLL_INTERVAL = 0.05


@contextmanager
def serve_metrics(address: str, client: Client) -> Iterator[int]:
    """Serve `/metrics` while the block runs, and yield the port.

    Args:
        address: `host:port`, or a port of this machine's loopback interface. Port 0 selects a free one.
        client: The client.

    Raises:
        click.BadParameter: The address is not valid, or cannot be listened on.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # of a client that sends nothing

        def do_GET(self) -> None:
            if urlsplit(self.path).path != "/metrics":
                self.send_error(404)
                return
            body = prometheus_text(client).encode()
            self.send_response(200)
            self.send_header("Content-Type", PROMETHEUS_CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log no requests."""

    host, port = _parse(address)

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    try:
        server = Server((host, port), Handler)
    except OSError as error:
        raise click.BadParameter(f"cannot listen on {address}: {error}", param_hint="--metrics") from None
    with server:
        Thread(target=server.serve_forever, args=(_POLL_INTERVAL,), name="sessionsight-metrics", daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


def _parse(address: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//127.0.0.1:{address}" if address.isdigit() else f"//{address}")
        if parts.hostname and parts.port is not None and not (parts.path or parts.query):
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise click.BadParameter(f"{address!r} is not of the form HOST:PORT", param_hint="--metrics")
