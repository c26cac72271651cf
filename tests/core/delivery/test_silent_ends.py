"""Processes that may end by `os._exit`, which runs no exit handlers: captured records are delivered at once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sessionsight import Client, Settings, TrackingContext
from sessionsight.capture.interfaces import Batch
from sessionsight.delivery import lifecycle
from tests.core.delivery.kit import batches, event
from tests.core.delivery.processes import names, run
from tests.support.server import Server, silence

pytestmark = pytest.mark.processes

FORK = """
def job(work):
    if (pid := os.fork()) == 0:
        work()
        os._exit(0)
    reap(pid)

"""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.mark.parametrize("made", ["parent", "child"])
def test_records_that_a_forked_child_captures_right_before_os_exit_arrive(made: str, server: Server) -> None:
    maker = "client = make()\nget = lambda: client\n" if made == "parent" else "get = make\n"
    script = FORK + maker + "for name in 'abc':\n    job(lambda: capture(get(), name))"

    assert run(script, server, covered=False) == ("", "")
    assert names(server) == ["a", "b", "c"]


def test_records_that_an_rq_job_captures_arrive(server: Server) -> None:
    script = """
import types
sys.modules["rq"] = types.SimpleNamespace(get_current_job=lambda: "job 1")
capture(make(), "a")
os._exit(0)
"""
    assert run(script, server, covered=False) == ("", "")
    assert names(server) == ["a"]


def test_a_child_of_multiprocessing_does_not_wait_before_its_end(server: Server) -> None:
    script = """
client = make(linger=LONG)

def work():
    capture(client, "a")
    print(client.stats().lanes["signal"].pending)

child = multiprocessing.get_context("fork").Process(target=work)
child.start()
child.join()
"""
    assert run(script, server, covered=False) == ("1\n", "")
    assert names(server) == ["a"]


@pytest.mark.parametrize("module", ["gunicorn.arbiter", "uwsgi"])
def test_the_worker_of_a_server_that_forks_does_not_wait(module: str, server: Server) -> None:
    script = (
        FORK
        + f"""
import types
sys.modules["{module}"] = types.SimpleNamespace(has_threads=1)
client = make(linger=LONG)

def work():
    capture(client, "a")
    print(client.stats().lanes["signal"].pending, flush=True)

job(work)
"""
    )
    assert run(script, server, covered=False) == ("1\n", "")
    assert names(server) == []


@pytest.mark.parametrize("spool", ["memory", "sqlite"])
def test_a_server_that_forks_for_each_request_delivers_its_records(spool: str, server: Server, tmp_path: Path) -> None:
    where = "memory" if spool == "memory" else f"sqlite:///{tmp_path}/spool.db"
    script = f"""
import socket, socketserver
from sessionsight import Analytics
from sessionsight.adapters import RequestScope
from tests.core.box import Visit

client = make(spool={where!r}, flush_timeout=LONG)

class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        analytics = Analytics(RequestScope(client, Visit(user="user_1")))
        analytics.capture("a")
        analytics._scope.close()

class ForkingServer(socketserver.ForkingMixIn, socketserver.TCPServer): ...

with ForkingServer(("127.0.0.1", 0), Handler) as forking, socket.create_connection(forking.server_address):
    forking.handle_request()
os._exit(0)
"""
    assert run(script, server, covered=False) == ("", "")
    assert names(server) == ["a"]


# --- timeouts --------------------------------------------------------------------------------------


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client in a process that may skip its exit handlers."""
    monkeypatch.setattr(lifecycle, "_imported_in", 0)
    settings = Settings(destinations=(batches(server.url),), trust_env=False, linger=3600.0, flush_timeout=0.3)
    client = Client(settings)
    yield client
    client.shutdown(0)


def pending(client: Client) -> int:
    return client.stats().lanes["vendor"].pending


def test_each_capture_waits_for_its_delivery(client: Client, server: Server) -> None:
    settings = Settings(destinations=(batches(server.url),), trust_env=False, linger=3600.0)
    client = Client(settings)
    for number in range(3):
        client.analytics.capture("seen", {"n": number}, user_id="user_1")
        assert pending(client) == 0
    client.shutdown(0)


def test_all_captures_together_wait_at_most_flush_timeout(
    client: Client, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.answer = silence()
    for _ in range(20):
        client.analytics.capture("seen", user_id="user_1")

    assert pending(client) == 20
    assert caplog.text.count("may end by os._exit") == 1


def test_a_process_that_serves_requests_does_not_wait(client: Client) -> None:
    client.submit(Batch([event("a").record], lambda: (TrackingContext(user_id="user_1"), None)))
    client.analytics.capture("b", user_id="user_1")

    assert pending(client) == 2


async def test_an_event_loop_does_not_wait(client: Client) -> None:
    client.analytics.capture("a", user_id="user_1")

    assert pending(client) == 1


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        ({}, False),
        ({"rq": SimpleNamespace(get_current_job=lambda: None)}, False),
        ({"rq": SimpleNamespace(get_current_job=object)}, True),
    ],
)
def test_a_process_that_was_not_forked_skips_exit_handlers_only_in_an_rq_job(
    modules: dict[str, Any], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("gunicorn.arbiter", "uwsgi", "rq"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)

    assert lifecycle.may_skip_exit_handlers() is expected


def test_a_child_of_billiard_belongs_to_celery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "_imported_in", 0)
    child = SimpleNamespace(current_process=lambda: SimpleNamespace(name="ForkPoolWorker-1"))
    monkeypatch.setitem(sys.modules, "billiard.process", child)

    assert not lifecycle.may_skip_exit_handlers()
