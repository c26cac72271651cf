"""A web server as its users start it: a command in a process group of its own, with one of our apps in it."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import free_port
from tests.support.server import Answer, Request, Server, reply, until
from tests.support.suites import WITHOUT_TRIO

ROOT = Path(__file__).parents[2]
BIN = Path(sys.prefix) / "bin"

END = 60.0
"""Seconds after which a server that was told to stop hangs. Some wait half of that for a worker."""
START = 30.0
"""Seconds that it may take to answer for the first time, and that any answer may take."""


def need(what: str, found: object, install: str) -> None:
    """Skip the test where this is not installed; in CI that is a failure.

    Args:
        what: The name of what is needed.
        found: Whether it is there.
        install: The command that installs it.
    """
    if found:
        return
    message = f"{what} is not installed: {install}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


class Site:
    """A server that runs, and everything that it was asked.

    Attributes:
        answered: The tokens of the requests that were answered.
        pids: The processes that answered them.
        unanswered: The tokens of those during which the connection ended: a record of them may have arrived or not.
        refuses: Whether the vendor is down: it answers 503, and what is sent to it has not arrived.
    """

    def __init__(self, process: subprocess.Popen[str], port: int, vendor: Server) -> None:
        self.process = process
        self.port = port
        self.vendor = vendor
        self.answered: list[str] = []
        self.pids: set[str] = set()
        self.unanswered: list[str] = []
        self.refuses = False
        vendor.decide = self._take
        self._taken: list[Request] = []
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._numbers = itertools.count()

    def pid(self) -> int:
        """The process that answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START)
        with contextlib.closing(connection):
            return int(_get(connection, "/pid"))

    def another_pid(self, than: int) -> int:
        """The process that answers, as soon as it is another one."""
        found: list[int] = []

        def answers() -> bool:
            # A server that is about to go may cut its answer short.
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                found.append(self.pid())
            return bool(found) and found[-1] != than

        until(answers, "another process answers")
        return found[-1]

    def visit(self, number: int, *, connections: int = 40) -> None:
        """Make requests, each of which captures one record, until so many are answered.

        Many connections, since a server that writes head and body apart has to wait 40 ms between them for the other
        side's acknowledgement (Nagle's algorithm, delayed ACK).
        """
        visits: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(number):
            visits.put(None)
        with ThreadPoolExecutor(connections) as pool:
            for done in [pool.submit(self._visits, visits) for _ in range(connections)]:
                done.result()

    def visit_workers(self, number: int) -> None:
        """Visit until so many processes have answered, so that all are there to be told to stop.

        One that is still starting then misses the signal on some servers, which wait for it and kill it at last.
        """
        for _ in range(200):
            if len(self.pids) >= number:
                return
            self.visit(40)
        raise AssertionError(f"only {len(self.pids)} of {number} workers answer")

    def _visits(self, visits: queue.SimpleQueue[None]) -> None:
        """A browser: it keeps its connection if the server does, and opens another one otherwise."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START)
        failures = 0
        with contextlib.closing(connection), contextlib.suppress(queue.Empty):
            while True:
                visits.get_nowait()
                token = f"t{self.process.pid}-{next(self._numbers)}"
                try:
                    self.pids.add(_get(connection, f"/capture/{token}"))
                except (ConnectionError, http.client.HTTPException):
                    # A worker that has served its last request hangs up, be there another one on its way or not.
                    connection.close()
                    visits.put(None)
                    failures += 1
                    assert failures < 100, "the server hangs up again and again"
                    self.unanswered.append(token)
                else:
                    self.answered.append(token)

    def arrived(self) -> Counter[str]:
        """How often the record of each token has arrived at the vendor so far."""
        return Counter(
            event["properties"]["token"] for request in list(self._taken) for event in request.json["events"]
        )

    def _take(self, request: Request) -> Answer:
        if self.refuses:
            return reply(503)
        self._taken.append(request)
        return self.vendor.answer

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to the server's first process, or to all of its processes, as a terminal does."""
        if group:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def end(self) -> None:
        """Wait until all of its processes are gone."""
        try:
            self.process.wait(END)
        except subprocess.TimeoutExpired:
            pytest.fail("the server does not end")
        self._reader.join(END)
        assert not self._reader.is_alive(), "a process of the server is left"

    def stop(self) -> None:
        """Stop as a service manager or a container does: by SIGTERM."""
        self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(END / 2)
            self.end()
            return
        # A worker of granian's WSGI waits in its main thread for Python's handler to run. A signal that comes right
        # before it falls asleep wakes it only with the next one, which goes to all processes, as systemd's do.
        self.signal(signal.SIGTERM, group=True)
        self.end()

    def log(self) -> str:
        """Return the server's output so far, but for the requests that it logs."""
        return "".join(line for line in list(self._lines) if "/capture/" not in line)

    def _read(self) -> None:
        """Read until the last of its processes has closed its output, which is when that ends."""
        assert self.process.stdout is not None
        with self.process.stdout as output:
            self._lines.extend(output)

    def each_once(self) -> None:
        """Nothing is missing, nothing doubled."""
        arrived = self.arrived()
        answered = set(self.answered)
        missing = answered - arrived.keys()
        assert not missing, f"{len(missing)} of {len(self.answered)} are missing"
        assert arrived.keys() <= answered | set(self.unanswered)
        assert not {token: number for token, number in arrived.items() if number > 1}


@contextmanager
def serve(
    command: str,
    folder: Path,
    *,
    options: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Site]:
    """Start a server, and kill what is left of it at the end.

    Args:
        command: As in a shell. PORT stands for the port, `BIN/` before a program for the environment of the tests.
        folder: An empty folder to run in.
        options: Settings for the app.
        environment: More variables of the environment. Of the tests' own only PATH is passed on, so that neither
            somebody's keys nor the measuring of coverage change what is tested.
    """
    with Server() as vendor:
        port = free_port()
        path = [str(folder), str(ROOT)]
        if "gevent" not in command and "program.py" not in command:  # where gevent or eventlet is, trio is found
            path.append(WITHOUT_TRIO)
        process = subprocess.Popen(
            shlex.split(command.replace("PORT", str(port)).replace("BIN", str(BIN))),
            cwd=folder,
            env={
                "PATH": f"{BIN}:{os.environ.get('PATH', '')}",
                "HOME": str(folder),
                "PYTHONPATH": ":".join(path),
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONUNBUFFERED": "1",
                "DJANGO_SETTINGS_MODULE": "tests.servers.apps.django_site",
                "ANALYSE_KEY": "pk_live_1",
                "ANALYSE_HOST": vendor.url,
                "SITE_OPTIONS": json.dumps(dict(options or {})),
                **(environment or {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        site = Site(process, port, vendor)
        try:
            until(lambda: _answers(site), "the server answers")
            yield site
        except BaseException:
            print(site.log())  # shown by pytest where a test has failed
            raise
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            site.end()


def _answers(site: Site) -> bool:
    if site.process.poll() is not None:
        pytest.fail("the server has ended by itself")
    try:
        return bool(site.pid())
    except (OSError, http.client.HTTPException):
        return False


def _get(connection: http.client.HTTPConnection, path: str) -> str:
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read().decode()
    assert response.status == 200, f"{response.status}: {body}"
    return body
