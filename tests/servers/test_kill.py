"""A record whose request was answered survives `kill -9` in a spool's file, and is delivered once."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pytest

from tests.servers.server import Site, serve
from tests.servers.table import KILLED, WAITING, Row, spool_environment
from tests.support.server import until

pytestmark = pytest.mark.servers

# All that is sent before a kill is refused. Else a record might be sent twice, and rightly: by one that was killed
# before it read the vendor's answer, and by one that takes over.
OPTIONS = {**WAITING, "backoff_max": 0.1}

# With several workers hypercorn kills its own at every stop.
SERVERS = [*KILLED, Row("hypercorn --workers 2", "starlette")]


@pytest.mark.parametrize(
    "row",
    [
        Row("gunicorn --workers 2 --threads 4", "flask"),
        Row("gunicorn --workers 2 --threads 4 --preload", "django"),
        Row("uvicorn --workers 2", "starlette"),
    ],
    ids=lambda row: row.id,
)
def test_workers_that_are_killed_during_requests_are_replaced_and_lose_nothing(row: Row, tmp_path: Path) -> None:
    row.needed()
    with serve(row.line, tmp_path, options=OPTIONS, environment=spool_environment("sqlite", tmp_path)) as site:
        site.refuses = True
        site.visit_workers(row.workers)
        killed = set(site.pids)
        before = len(site.answered)
        with ThreadPoolExecutor(1) as pool:
            visits = pool.submit(site.visit, 400)
            until(lambda: len(site.answered) >= before + 100, "many requests are answered, and many under way")
            for pid in killed:
                os.kill(int(pid), signal.SIGKILL)
            visits.result()
        until(lambda: not any(map(_runs, killed)), "the killed are gone")
        assert site.pids > killed, "others answer"
        site.refuses = False

        site.vendor.wait_until(lambda: set(site.answered) <= site.arrived().keys(), "all that was answered")
        site.stop()
        site.each_once()


@pytest.mark.parametrize("row", SERVERS, ids=lambda row: row.id)
def test_a_server_that_is_killed_leaves_everything_to_its_next_start(row: Row, tmp_path: Path) -> None:
    row.needed()

    def start() -> AbstractContextManager[Site]:
        return serve(row.line, tmp_path, options=OPTIONS, environment=spool_environment("sqlite", tmp_path))

    with start() as site:
        site.refuses = True
        site.visit(60)
        site.signal(signal.SIGKILL, group=True)
        site.end()
        assert not site.arrived()
    answered = site.answered
    with start() as site:
        site.visit(1)  # a process looks at the file when it has something to write there itself
        site.answered += answered

        site.vendor.wait_until(lambda: set(site.answered) <= site.arrived().keys(), "what the killed have left")
        if row in KILLED:
            site.visit(120)
            site.visit_workers(row.workers)
        site.stop()
        site.each_once()


def _runs(pid: str) -> bool:
    with suppress(ProcessLookupError):
        os.kill(int(pid), 0)
        return True
    return False
