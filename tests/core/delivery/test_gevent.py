"""Processes patched by gevent, up to their exit. (tests/servers has gevent's servers.)"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from tests.core.delivery.processes import run
from tests.core.delivery.spool_processes import names
from tests.support.server import Server

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="gevent is not installed"),
]

# httpcore imports trio, which starts `ldconfig`. On Python 3.13, gevent writes an error of its own to stderr when a
# process is started at exit.
PATCH = "from gevent import monkey\nmonkey.patch_all()\nsys.modules['trio'] = None\n"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


def test_queued_records_are_delivered_at_exit(server: Server) -> None:
    assert run(PATCH + "client = make(linger=LONG)\ncapture(client, 'a')", server) == ("", "")

    assert names(server) == {"a": 1}


def test_every_lane_delivers_at_exit(server: Server) -> None:
    script = """
client, goals = make(linger=LONG), make(name="sessionsight", linger=LONG)
capture(client, "a")
for _ in range(8):
    goals.analytics.goals.increment("signups", session_id="6f1d2c3b")
"""
    assert run(PATCH + script, server) == ("", "")

    assert sorted(request.target for request in server.requests) == ["/v1/capture", *["/v1/goals/increment"] * 8]


def test_records_captured_in_atexit_functions_are_delivered(server: Server) -> None:
    script = "client = make(linger=LONG)\natexit.register(capture, client, 'from atexit')"
    assert run(PATCH + script, server) == ("", "")

    assert names(server) == {"from atexit": 1}


def test_records_are_delivered_by_greenlets_that_first_run_at_exit(server: Server) -> None:
    """The burst fills a batch, and the greenlets run for the first time when gevent waits for others at exit."""
    script = "client = make(linger=LONG, backoff_base=0.01)\nfor _ in range(2001):\n    capture(client, 'a')"
    run(PATCH + script, server)

    assert names(server) == {"a": 2001}
