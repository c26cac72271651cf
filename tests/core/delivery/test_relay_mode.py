"""`delivery="relay"`: a process that only writes its records to a durable spool."""

from __future__ import annotations

import gc
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sessionsight import Client, ConfigurationError, Settings
from sessionsight.capture.scope import RequestScope
from sessionsight.delivery.queue.enqueue_only import EnqueueOnlySpool
from sessionsight.delivery.stores.sqlite.store import SqliteStore
from sessionsight.destinations import SessionSight, Signal
from sessionsight.diagnosis.test_event import send_test_event
from sessionsight.log import ThrottledLogger
from sessionsight.testing import run_inspector
from tests.core.box import Visit
from tests.core.delivery.kit import event, tally
from tests.core.delivery.spools import LANE, enter, query
from tests.support.clock import RunningClock
from tests.support.flaky_store import FlakyStore, as_store
from tests.support.server import Server, until

MakeClient = Callable[..., Client]
Threads = Callable[[], list[str]]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@pytest.fixture
def make(server: Server, path: Path) -> Iterator[MakeClient]:
    """Makes clients that deliver to the server, which are shut down after the test."""
    clients: list[Client] = []

    def make(**options: Any) -> Client:
        destinations = (
            Signal(api_key="key", project_id="shop", endpoint=server.url),
            SessionSight(secret_api_key="key", property_id="shop", api_url=server.url),
        )
        chosen = {"delivery": "relay", "spool": f"sqlite:///{path}", "spool_timeout": 20.0, **options}
        clients.append(Client(Settings(destinations=destinations, trust_env=False, **chosen)))
        return clients[-1]

    yield make
    for client in clients:
        client.shutdown(0)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Write to the file for the whole block, so that nobody else can."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def capture(client: Client, name: str = "seen") -> None:
    client.analytics.capture(name, user_id="user_1")


@pytest.fixture
def our_threads() -> Threads:
    """Returns the names of the threads that the test has started."""
    before = {*threading.enumerate()}
    return lambda: sorted(each.name for each in {*threading.enumerate()} - before if each.name.startswith("session"))


def queued(path: Path) -> int:
    [[number]] = query(path, "SELECT count(*) FROM queue")
    return int(number)


# --- the settings ---------------------------------------------------------------------------------


def test_it_needs_a_durable_spool() -> None:
    with pytest.raises(ConfigurationError, match="needs a durable spool, from which `sessionsight relay` delivers"):
        Settings(delivery="relay")
    assert Settings(delivery="relay", disabled=True).disabled


def test_it_contradicts_inline_delivery(path: Path) -> None:
    with pytest.raises(ConfigurationError, match='flush="inline" delivers within the request'):
        Settings(delivery="relay", spool=f"sqlite:///{path}", flush="inline")


# --- capturing ------------------------------------------------------------------------------------


def test_records_are_written_and_nothing_else_happens(
    our_threads: Threads, make: MakeClient, server: Server, path: Path
) -> None:
    client = make()
    for _ in range(100):
        capture(client)
    client.analytics.goals.increment("signups", session_id="s1")

    assert queued(path) == 101
    assert client.flush()
    client.resume()
    assert tally(client.stats().lanes["signal"]) == {"captured": 100, "pending": 100}
    assert client.dead_letters() == []
    assert client.shutdown()
    assert (queued(path), our_threads(), server.connections) == (101, [], 0)


def test_a_request_without_a_record_starts_nothing(make: MakeClient, path: Path) -> None:
    client = make()
    assert not client.needs_start
    scope = RequestScope(client, Visit())
    scope.end()
    scope.close()
    assert not path.exists()


def test_a_dropped_client_leaves_its_records(
    our_threads: Threads, make: MakeClient, server: Server, path: Path
) -> None:
    destination = Signal(api_key="key", project_id="shop", endpoint=server.url)
    capture(Client(Settings(destinations=(destination,), delivery="relay", spool=f"sqlite:///{path}")))
    gc.collect()
    assert (queued(path), our_threads()) == (1, [])


def test_a_forked_child_writes_to_the_same_spool(our_threads: Threads, make: MakeClient, path: Path) -> None:
    client = make()
    capture(client)
    pid = os.fork()
    if pid == 0:
        capture(client)
        os._exit(client.needs_start or not client.flush() or len(our_threads()))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert queued(path) == 2


def test_a_test_event_is_delivered_without_a_relay(make: MakeClient, server: Server, path: Path) -> None:
    findings = send_test_event(make())
    assert [finding.level for finding in findings] == ["ok", "warning"]
    assert (len(server.requests), path.exists()) == (1, False)


def test_a_test_delivers_without_a_relay(make: MakeClient) -> None:
    client = make()
    with run_inspector() as inspector:
        capture(client)
        assert client.flush()
        assert len(inspector.records(event="seen")) == 1


def test_a_client_that_was_shut_down_does_not_wait_for_records_of_others(make: MakeClient, path: Path) -> None:
    """As the exit of the process shuts it down again."""
    capture(make())
    relay = make(delivery="background")
    assert relay.shutdown(0)

    assert relay.shutdown(3600)
    assert queued(path) == 1


# --- a store that cannot be written ---------------------------------------------------------------


def test_records_in_memory_are_written_when_the_store_is_back(
    our_threads: Threads, make: MakeClient, server: Server, path: Path
) -> None:
    client = make(spool_timeout=0.01)
    capture(client)
    with locked(path):
        capture(client)
        client.analytics.goals.increment("signups", session_id="s1", key="order_1")
        assert our_threads() == ["sessionsight-dispatcher"]  # only because there is something to write
        assert not client.flush(0.05)
        assert tally(client.stats().lanes["signal"]) == {"captured": 2, "pending": 2}

    assert client.flush(20)
    assert (queued(path), server.connections) == (3, 0)
    assert tally(client.stats().lanes["sessionsight"]) == {"captured": 1, "pending": 1}


def test_records_that_cannot_be_written_until_the_end_are_lost_and_counted(
    make: MakeClient, server: Server, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = make(spool_timeout=0.01)
    capture(client)
    with locked(path):
        capture(client)
        assert not client.shutdown(0.05)
    assert "shutdown: records were lost that could not be delivered: 1 for signal" in caplog.text
    assert (queued(path), server.connections) == (1, 0)


def test_a_host_without_threads_writes_in_its_requests(
    our_threads: Threads,
    make: MakeClient,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(has_threads=0))
    client = make(spool_timeout=0.01, flush_timeout=0.05)
    capture(client)
    with locked(path):
        capture(client)
    assert queued(path) == 1

    def written() -> bool:
        capture(client)
        return queued(path) > 2

    until(written, "what was in memory is in the file")
    assert client.flush(20)
    assert "uWSGI does not run threads" not in caplog.text
    assert our_threads() == []


def test_a_deleted_file_is_replaced(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool, _ = enqueue_only(path)
    enter(spool, [event("a")])
    path.unlink()
    enter(spool, [event("b")])  # into the deleted file
    spool.clock.advance(2.0)
    enter(spool, [event("c")])
    assert queued(path) == 3
    assert "the file was moved or deleted" in caplog.text
    spool.close()


def test_a_store_that_cannot_be_checked_is_checked_again(path: Path) -> None:
    spool, flaky = enqueue_only(path)
    with flaky.failing("check"):
        enter(spool, [event("a")])
    assert queued(path) == 1
    spool.clock.advance(2.0)
    flaky.calls.clear()
    enter(spool, [event("b")])
    enter(spool, [event("c")])
    assert flaky.calls == ["check", "enqueue", "enqueue"]
    spool.close()


def test_a_full_spool_is_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool, _ = enqueue_only(path, spool_bytes=200_000)
    for _ in range(100):
        enter(spool, [event(size=4_000)])
    assert f"{LANE}: the spool is full" in caplog.text
    assert "no relay is running" in caplog.text
    assert spool.lane(LANE).snapshot("").dropped["queue_full"] > 0
    spool.close()


def enqueue_only(path: Path, **options: Any) -> tuple[Any, FlakyStore]:
    settings = Settings(spool_timeout=20.0, **options)
    logger, clock = ThrottledLogger(), RunningClock()
    flaky = FlakyStore(SqliteStore(str(path), settings, logger, clock=clock))
    spool = EnqueueOnlySpool(as_store(flaky), settings, logger, clock=clock)
    spool.lane(LANE)
    return spool, flaky
