"""A vendor that takes everything, as quickly as Python can, in a process of its own.

It keeps connections alive, reads whatever is posted, and answers 200 with an empty JSON object; or, with `hang`, never
answers. It counts a marker in the bodies, and answers a GET request with that number.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@contextmanager
def running(*, hang: bool = False, marker: str = "") -> Iterator[str]:
    """Run the server; gives its address."""
    command = [sys.executable, "-m", "benchmarks.server", "hang" if hang else "reply", marker]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def counted(url: str) -> int:
    """Return how often the server has received its marker."""
    address, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((address, int(port)), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        return int(connection.recv(1000).rpartition(b"\n")[2])


class Marker:
    """Counts a marker in all bodies."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self.found = 0

    def count(self, body: bytes) -> None:
        if self._text:
            self.found += body.count(self._text)


class Sink(asyncio.Protocol):
    """One connection: requests are told apart by their Content-Length."""

    def __init__(self, reply: bytes, marker: Marker) -> None:
        self._reply = reply
        self._marker = marker
        self._head = b""
        self._body: list[bytes] = []
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        while data:
            if not self._missing:
                self._head += data
                head, end, data = self._head.partition(b"\r\n\r\n")
                if not end:
                    return
                if head.startswith(b"GET "):
                    self._head = b""
                    number = b"%d" % self._marker.found
                    self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(number), number))
                    continue
                self._head = b""
                length = _LENGTH.search(head)
                self._missing = int(length[1]) if length else 0
            taken = min(self._missing, len(data))
            self._missing -= taken
            self._body.append(data[:taken])
            data = data[taken:]
            if not self._missing:
                self._marker.count(b"".join(self._body))
                self._body.clear()
                self._transport.write(self._reply)


async def main(reply: bytes, marker: Marker) -> None:
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), os._exit, 0)  # its end: the process that started this one was killed
    server = await loop.create_server(lambda: Sink(reply, marker), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    kind, text = sys.argv[1:]
    asyncio.run(main(b"" if kind == "hang" else _REPLY, Marker(text.encode())))
