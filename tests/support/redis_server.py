"""Redis servers of a test's own, which it may stop, kill and empty."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.ports import free_port
from tests.support.server import PATIENCE

__all__ = ["RedisProxy", "RedisServer", "run_redis"]


class RedisServer:
    """A server on a free port of this machine.

    Args:
        folder: Its files; without `appendonly="yes"` it writes none.
        **options: Its configuration.
    """

    def __init__(self, folder: Path, **options: str) -> None:
        self._folder = folder
        self._options = {"appendonly": "no", **options}
        self._client_options: dict[str, Any] = {
            "password": options.get("requirepass"),
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": PATIENCE,
        }
        if "tls-port" in options:
            self._client_options.update(ssl=True, ssl_ca_certs=options["tls-ca-cert-file"])
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.start()

    @property
    def url(self) -> str:
        """The URL of a spool, without password."""
        return f"{'rediss' if 'tls-port' in self._options else 'redis'}://127.0.0.1:{self.port}/0?namespace=shop"

    def command(self, *words: str) -> Any:
        """Run a command on a connection of its own, and return the reply."""
        with redis.Redis("127.0.0.1", self.port, decode_responses=True, protocol=2, **self._client_options) as client:
            return client.execute_command(*words)

    def start(self) -> None:
        """Start the server, and wait until it has loaded its files."""
        port = str(self.port)
        ports = {"port": "0", "tls-port": port} if "tls-port" in self._options else {"port": port}
        options = [f"--{name} {value}" for name, value in {**self._options, **ports}.items()]
        command = ["redis-server", "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", ""]
        arguments = [word for option in options for word in option.split(" ")]
        with (self._folder / "redis.log").open("wb") as log:
            self._process = subprocess.Popen([*command, *arguments], stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(redis.ConnectionError):
                if self.command("INFO")["process_id"] == self._process.pid:
                    return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.01)
        self.kill()
        raise AssertionError((self._folder / "redis.log").read_text())

    def signal(self, number: int) -> None:
        """Send a signal to the server."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End the server at once."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE)

    def stop(self) -> None:
        """End the server."""
        assert self._process is not None
        self.signal(signal.SIGCONT)
        self._process.terminate()
        self._process.wait(PATIENCE)


@contextlib.contextmanager
def run_redis(folder: Path, **options: str) -> Iterator[RedisServer]:
    """Run a server; skip the test where none is installed."""
    if shutil.which("redis-server") is None:
        message = "redis-server is not installed: apt-get install redis-server"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    server = RedisServer(folder, **options)
    try:
        yield server
    finally:
        server.stop()


class RedisProxy:
    """Passes everything on to a server, except what a test tells it to lose or to answer.

    Attributes:
        answers: Replies to the next scripts, which the server does not get.
        lose: The number of replies to lose, with their connections.
    """

    def __init__(self, server: RedisServer) -> None:
        self.answers: deque[bytes] = deque()
        self.lose = 0
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = server.url.replace(str(server.port), str(self._listener.getsockname()[1]))
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _start(self, target: Any, *arguments: Any) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it is closed
            while True:
                self._start(self._pass_on, self._listener.accept()[0])

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._server.port)) as server:
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(1 << 20)
                    if not data:
                        return
                    if source is client and self.answers and b"EVALSHA" in data:
                        client.sendall(self.answers.popleft())
                    elif source is server and self.lose:
                        self.lose -= 1
                        return
                    else:
                        (server if source is client else client).sendall(data)
