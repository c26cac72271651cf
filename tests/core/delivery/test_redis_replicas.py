"""A Redis spool that waits until replicas have what it was given."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.factory import open_redis_store
from sessionsight.delivery.stores.redis.store import RedisStore
from sessionsight.log import ThrottledLogger
from tests.core.delivery.test_redis_store import LANE, record
from tests.support.redis_server import RedisServer, run_redis
from tests.support.server import PATIENCE


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[RedisServer]:
    with run_redis(tmp_path, **{"repl-diskless-sync-delay": "0"}) as server:
        yield server


@pytest.fixture
def replica(primary: RedisServer, tmp_path: Path) -> Iterator[RedisServer]:
    folder = tmp_path / "replica"
    folder.mkdir()
    with run_redis(folder, replicaof=f"127.0.0.1 {primary.port}") as server:
        until(lambda: server.command("INFO")["master_link_status"] == "up")
        yield server


def until(condition: object) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def store(primary: RedisServer) -> Iterator[RedisStore]:
    store = open_redis_store(f"{primary.url}&wait_replicas=1", DeliveryOptions(), ThrottledLogger(), timeout=20.0)
    yield store
    store.close()


def put(store: RedisStore, body: bytes, *, timeout: float) -> None:
    enqueued = store.enqueue([record(body)], {(LANE, "captured"): 1}, batch_id=uuid4().bytes, timeout=timeout)
    assert [*enqueued.handles[0]] == [LANE]


def waits(server: RedisServer) -> int:
    """Return how often the server was told to wait for replicas."""
    found = server.command("INFO", "commandstats").get("cmdstat_wait")
    return 0 if found is None else int(found["calls"])


def test_a_write_is_on_the_replica_when_it_returns(
    store: RedisStore, primary: RedisServer, replica: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(20):
        put(store, b"a", timeout=20.0)
        assert int(replica.command("HLEN", "{shop}:records")) == number + 1
    assert waits(primary) == 20
    assert caplog.text == ""


def test_a_write_that_no_replica_has_in_time_is_stored_once_and_logged_once(
    store: RedisStore, primary: RedisServer, replica: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    put(store, b"a", timeout=20.0)
    replica.signal(signal.SIGSTOP)

    put(store, b"b", timeout=2.0)
    put(store, b"c", timeout=20.0)  # which does not wait again
    assert waits(primary) == 2
    store.connections._wait_again_at = 0.0
    put(store, b"d", timeout=2.0)

    assert waits(primary) == 3
    assert store.counts(LANE) == {"captured": 4, "pending": 4, "dead": 0}
    [logged] = caplog.records
    assert logged.message == (
        f"spool {primary.url}: 0 of 1 replicas had a write in time (wait_replicas); it is stored, and lost if the "
        "primary is lost before they have it"
    )
    replica.signal(signal.SIGCONT)
    store.connections._wait_again_at = 0.0
    put(store, b"e", timeout=20.0)
    assert int(replica.command("HLEN", "{shop}:records")) == 5


def test_no_replica_is_waited_for_without_the_option(primary: RedisServer) -> None:
    store = open_redis_store(primary.url, DeliveryOptions(), ThrottledLogger(), timeout=20.0)
    put(store, b"a", timeout=20.0)
    assert waits(primary) == 0
    store.close()


def test_a_write_whose_wait_is_refused_is_stored(
    store: RedisStore, primary: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    primary.command("ACL", "SETUSER", "default", "-wait")

    put(store, b"a", timeout=20.0)

    assert store.counts(LANE)["pending"] == 1
    assert "0 of 1 replicas had a write in time" in caplog.text
    assert len(store.connections._idle) == 1


def test_a_connection_that_is_lost_while_it_waits_loses_no_answer(store: RedisStore, primary: RedisServer) -> None:
    writing = threading.Thread(target=put, args=(store, b"a"), kwargs={"timeout": 3600.0})
    writing.start()
    until(lambda: int(primary.command("INFO")["blocked_clients"]))

    primary.command("CLIENT", "KILL", "TYPE", "normal")

    writing.join(PATIENCE)
    assert not writing.is_alive()
    assert store.counts(LANE) == {"captured": 1, "pending": 1, "dead": 0}


def test_a_write_that_has_taken_all_its_time_does_not_wait(store: RedisStore, primary: RedisServer) -> None:
    put(store, b"a", timeout=2.0)
    store.connections._wait_again_at = 0.0
    [connection] = store.connections._idle
    assert store.connections._wait_for_replicas(connection, time.monotonic() - 1)
    assert waits(primary) == 1
