"""A vendor that takes everything, as quickly as Python can, in a process of its own.

It keeps connections alive, reads whatever is posted, and answers 200 with an empty JSON object; or,
with `hang`, never answers.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@contextmanager
def running(*, hang: bool = False) -> Iterator[str]:
    """Run the server; gives its address."""
    command = [sys.executable, "-m", "benchmarks.server", *(["hang"] if hang else [])]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


class Sink(asyncio.Protocol):
    """One connection: requests are told apart by their Content-Length, and not looked at otherwise."""

    def __init__(self, reply: bytes) -> None:
        self._reply = reply
        self._head = b""
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
                self._head = b""
                length = _LENGTH.search(head)
                self._missing = int(length[1]) if length else 0
            taken = min(self._missing, len(data))
            self._missing -= taken
            data = data[taken:]
            if not self._missing:
                self._transport.write(self._reply)


async def main(reply: bytes) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Sink(reply), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(b"" if "hang" in sys.argv else _REPLY))
