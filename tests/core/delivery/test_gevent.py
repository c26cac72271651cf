"""Real processes that gevent has patched, up to their end. (tests/servers has its servers.)"""

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

PATCH = "from gevent import monkey\nmonkey.patch_all()\n"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


def test_the_interpreters_exit_delivers_what_waits(server: Server) -> None:
    assert run(PATCH + "client = make(linger=LONG)\ncapture(client, 'a')", server) == ("", "")

    assert names(server) == {"a": 1}


def test_it_delivers_in_every_lane(server: Server) -> None:
    script = """
client, goals = make(linger=LONG), make(name="sessionsight", linger=LONG)
capture(client, "a")
for _ in range(8):
    goals.analytics.goals.increment("signups", session_id="6f1d2c3b")
"""
    assert run(PATCH + script, server) == ("", "")

    assert sorted(request.target for request in server.requests) == ["/v1/capture", *["/v1/goals/increment"] * 8]


def test_it_delivers_what_atexit_functions_capture(server: Server) -> None:
    script = "client = make(linger=LONG)\natexit.register(capture, client, 'from atexit')"
    assert run(PATCH + script, server) == ("", "")

    assert names(server) == {"from atexit": 1}


def test_what_a_greenlet_could_not_send_while_the_main_one_ended_is_delivered(server: Server) -> None:
    """The burst fills a batch, and its greenlets run for the first time when gevent waits for others at the end."""
    script = "client = make(linger=LONG, backoff_base=0.01)\nfor _ in range(2001):\n    capture(client, 'a')"
    run(PATCH + script, server)

    assert names(server) == {"a": 2001}
