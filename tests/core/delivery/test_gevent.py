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

REFUSE = """\
import _thread, os

exiting = []


def until_exit(function):
    def guarded(*args):
        if exiting:
            raise RuntimeError("not at interpreter shutdown")
        return function(*args)

    return guarded


_thread.start_new_thread = until_exit(_thread.start_new_thread)
os.fork = until_exit(os.fork)
"""
EXIT = """\
import threading


def shutdown(real=threading._shutdown):
    exiting.append(True)
    real()


threading._shutdown = shutdown
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture(params=["as it is", "refusing"])
def patch(request: pytest.FixtureRequest) -> str:
    """Patch gevent in an interpreter that exits as it is, or like Python 3.12.0 to 3.12.2, without new threads."""
    return PATCH if request.param == "as it is" else REFUSE + PATCH + EXIT


@pytest.mark.measured_processes
def test_queued_records_are_delivered_at_exit(server: Server, patch: str) -> None:
    assert run(patch + "client = make(linger=LONG)\ncapture(client, 'a')", server) == ("", "")

    assert names(server) == {"a": 1}


def test_every_lane_delivers_at_exit(server: Server, patch: str) -> None:
    script = """
client, goals = make(linger=LONG), make(name="sessionsight", linger=LONG)
capture(client, "a")
for _ in range(8):
    goals.analytics.goals.increment("signups", session_id="6f1d2c3b")
"""
    assert run(patch + script, server) == ("", "")

    assert sorted(request.target for request in server.requests) == ["/v1/capture", *["/v1/goals/increment"] * 8]


def test_records_captured_in_atexit_functions_are_delivered(server: Server, patch: str) -> None:
    script = "client = make(linger=LONG)\natexit.register(capture, client, 'from atexit')"
    assert run(patch + script, server) == ("", "")

    assert names(server) == {"from atexit": 1}


def test_records_are_delivered_by_greenlets_that_first_run_at_exit(server: Server, patch: str) -> None:
    """The burst fills a batch, and the greenlets run for the first time when gevent waits for others at exit."""
    script = "client = make(linger=LONG, backoff_base=0.01)\nfor _ in range(2001):\n    capture(client, 'a')"
    run(patch + script, server)

    assert names(server) == {"a": 2001}


@pytest.mark.measured_processes
def test_a_resolver_selected_by_the_program_stays(server: Server) -> None:
    script = """
import gevent
from gevent.resolver.blocking import Resolver


class Own(Resolver):
    pass


gevent.get_hub().resolver = Own()
atexit.register(lambda: print(type(gevent.get_hub().resolver).__name__))
client = make(linger=LONG)
capture(client, "a")
"""
    assert run(REFUSE + PATCH + EXIT + script, server) == ("Own\n", "")

    assert names(server) == {"a": 1}
