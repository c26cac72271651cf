"""A garbage-collected client delivers what is left, then ends its threads and its connections."""

from __future__ import annotations

import contextlib
import gc
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sessionsight
from sessionsight import Client, Settings
from sessionsight.capture.current import set_default_client
from sessionsight.delivery import lifecycle
from sessionsight.delivery.queue.durable_spool import DurableSpool
from sessionsight.delivery.stores.sqlite.store import SqliteStore
from tests.core.delivery.kit import batches, singles
from tests.support.server import Server, reply, until

LONG = 3600.0


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture(params=["memory", "sqlite"])
def spool(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory" if request.param == "memory" else f"sqlite:///{tmp_path}/spool.db"


def make(server: Server, **options: Any) -> Client:
    destinations = (batches(server.url), singles(server.url))
    return Client(Settings(destinations=destinations, **{"trust_env": False, "backoff_base": 0.01, **options}))


def capture(client: Client) -> None:
    client.analytics.capture("seen", user_id="user_1")
    client.analytics.goals.increment("signups", session_id="6f1d2c3b")


def ours() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("sessionsight")}


@pytest.mark.parametrize("flushed", [True, False])
def test_repeatedly_created_clients_leave_no_threads(server: Server, spool: str, flushed: bool) -> None:
    before, kept = ours(), len(lifecycle._engines)
    client = None
    for _ in range(5):
        client = make(server, spool=spool)
        capture(client)
        if flushed:
            assert client.flush(20.0)
    assert ours() - before

    client = None
    until(lambda: not ours() - before, "all threads have ended")
    until(lambda: len(lifecycle._engines) == kept, "no engine is left to be closed at exit")
    arrived = b"".join(request.body for request in server.requests)
    assert arrived.count(b"seen") == arrived.count(b"signups") == 2 * 5, "each vendor accepts both"


@pytest.mark.parametrize("fault", ["busy", "unusable"])
def test_a_client_whose_file_failed_ends_without_garbage_collection(server: Server, tmp_path: Path, fault: str) -> None:
    """A traceback that is kept would keep the client that called."""
    path = tmp_path / "spool.db"
    client = make(server, spool=f"sqlite:///{path}", spool_timeout=0.01)
    if fault == "busy":
        capture(client)
        assert client.flush(20.0)
    else:
        path.mkdir()
    gc.collect()
    gc.disable()
    try:
        with contextlib.ExitStack() as stack:
            if fault == "busy":
                other = stack.enter_context(contextlib.closing(sqlite3.connect(path, isolation_level=None)))
                other.execute("BEGIN IMMEDIATE")
            capture(client)
        gone = weakref.ref(client)
        del client
        until(lambda: gone() is None, "the client is gone")
    finally:
        gc.enable()


def test_a_client_ends_without_a_garbage_collection(server: Server) -> None:
    client = make(server)
    capture(client)
    client.flush(20.0)
    gone = weakref.ref(client)
    gc.disable()
    try:
        del client
        assert gone() is None
    finally:
        gc.enable()


def test_lingering_records_are_sent(server: Server, spool: str) -> None:
    before = ours()
    capture(make(server, linger=LONG, spool=spool))

    until(lambda: not ours() - before, "all threads have ended")
    arrived = b"".join(request.body for request in server.requests)
    assert arrived.count(b"seen") == arrived.count(b"signups") == 2


def test_failing_records_are_delivered_first(server: Server) -> None:
    before = ours()
    server.will(*[reply(429)] * 6)
    capture(make(server))

    until(lambda: not ours() - before, "all threads have ended")
    assert len(server.requests) >= 6 + 3
    assert sum(request.body.count(b"seen") for request in server.requests[6:]) == 2


def test_its_connections_are_closed(server: Server) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        descriptors = Path("/dev/fd")
    before, open_files = ours(), len(list(descriptors.iterdir()))
    for _ in range(5):
        capture(make(server))

    until(lambda: not ours() - before, "all threads have ended")
    until(lambda: len(list(descriptors.iterdir())) <= open_files, "all connections are closed")


def test_a_replaced_default_client_ends(server: Server) -> None:
    before = ours()
    destinations = {"analyse": {"public_key": "pk_live_1", "host": server.url}}
    try:
        for number in range(5):
            sessionsight.configure(destinations=destinations)
            sessionsight.current().capture(f"run {number}", user_id="user_1")
    finally:
        set_default_client(None)

    until(lambda: not ours() - before, "all threads have ended")
    assert sum(request.body.count(b'"run ') for request in server.requests) == 5


def test_a_client_that_captured_nothing_has_no_threads(server: Server, spool: str) -> None:
    before = ours()
    make(server, spool=spool)

    assert ours() == before


@pytest.mark.parametrize("use", [Client.stats, Client.flush, Client.dead_letters])
def test_a_client_that_only_read_its_spool_closes_it(
    use: Callable[[Client], object], server: Server, tmp_path: Path
) -> None:
    client = make(server, spool=f"sqlite:///{tmp_path}/spool.db")
    use(client)
    engine = client._engine
    del client

    assert isinstance(engine._spool, DurableSpool)
    assert isinstance(engine._spool.store, SqliteStore)
    assert engine._spool.store.file._connection is None


def test_a_client_that_only_resumed_ends_its_threads(server: Server, spool: str) -> None:
    before = ours()
    client = make(server, spool=spool)
    client.resume()
    assert ours() - before

    del client
    until(lambda: not ours() - before, "all threads have ended")


def test_a_forked_child_that_drops_a_client_does_not_affect_its_parents(server: Server) -> None:
    client = make(server)
    capture(client)
    assert client.flush(20.0)
    if (pid := os.fork()) == 0:
        del client
        gc.collect()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    capture(client)
    assert client.flush(20.0)
    assert client.shutdown()
