"""Records that end the processes that handle them: the contract of every store, and real processes."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
import redis

from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.factory import open_redis_store
from sessionsight.delivery.stores.base import (
    MAX_TAKEOVERS,
    SUSPECT_TAKEOVERS,
    Counts,
    DeadLetterQuery,
    Failure,
    NewRecord,
    Outcome,
    Store,
    next_claim,
)
from sessionsight.delivery.stores.sqlite.store import SqliteStore
from sessionsight.log import ThrottledLogger
from tests.core.delivery.kit import event, labels
from tests.core.delivery.spool_processes import deliver, finish, names, start
from tests.core.delivery.spools import LANE, POISON, abandon, counts, empty_redis, enter, sqlite_spool
from tests.support.brokers import need_redis
from tests.support.server import Server

UNKNOWN = Failure(reason="unknown", message="the process ended", attempts=1)
X, Y = "x", "y"  # two lanes
DATABASES = ("postgresql", "mariadb", "sqlite_orm")


class Fleet(ABC):
    """Processes that share one store."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    @abstractmethod
    def open(self) -> Any:
        """Return a store, as of another process."""

    @abstractmethod
    def kill(self, store: Any) -> None:
        """Leave the claims of a store as a killed process does."""

    def start(self) -> Store:
        """Start a process, which is ended with the test."""
        store = cast(Store, self.open())
        self._stack.callback(store.close)
        return store

    def recover(self, ended: Store, in_flight: Failure | None = UNKNOWN) -> tuple[int, int]:
        """Kill a process, and let another one recover its claims."""
        self.kill(ended)
        return self.start().recover(in_flight, POISON)


class SqliteFleet(Fleet):
    def __init__(self, stack: ExitStack, folder: Path) -> None:
        super().__init__(stack)
        self._path = str(folder / "spool.db")

    def open(self) -> SqliteStore:
        return SqliteStore(self._path, DeliveryOptions(), ThrottledLogger(), timeout=20.0)

    def kill(self, store: SqliteStore) -> None:
        store._acquire_owner().release()
        store._owner_lock = None


class RedisFleet(Fleet):
    def __init__(self, stack: ExitStack) -> None:
        super().__init__(stack)
        self._namespace = f"test-{uuid4().hex}"
        self._url = f"{need_redis()}?namespace={self._namespace}"
        stack.callback(empty_redis, self._url)
        self._client = stack.enter_context(redis.Redis.from_url(need_redis(), protocol=2))

    def open(self) -> Any:
        return open_redis_store(self._url, DeliveryOptions(), ThrottledLogger(), timeout=20.0)

    def kill(self, store: Any) -> None:
        self._client.zadd(f"{{{self._namespace}}}:owners", {store.owner: 0})


class DatabaseFleet(Fleet):
    def __init__(self, stack: ExitStack, engine: str, folder: Path) -> None:
        from tests.adapters import outbox_databases  # needs Django

        super().__init__(stack)
        self._databases = outbox_databases
        self._alias = stack.enter_context(outbox_databases.outbox_database(engine, folder))

    def open(self) -> Any:
        return self._databases.outbox_store(self._alias)

    def kill(self, store: Any) -> None:
        with store._transaction(20.0) as cursor:
            cursor.execute("UPDATE sessionsight_owner SET expires_at = 0 WHERE owner = %s", [store.owner])


@pytest.fixture(params=["sqlite", "redis", *DATABASES])
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        if request.param == "sqlite":
            yield SqliteFleet(stack, tmp_path)
        elif request.param == "redis":
            yield RedisFleet(stack)
        else:
            yield DatabaseFleet(stack, request.param, tmp_path)


def put(store: Store, lane: str, *bodies: str) -> None:
    """Add events to a lane."""
    records = [
        NewRecord(lanes=[lane], body=body.encode(), priority=1, size=10, enqueued_at=1000.0 + at)
        for at, body in enumerate(bodies)
    ]
    counts: Counts = {(lane, "captured"): len(records)}
    store.enqueue(records, counts, batch_id=uuid4().bytes[:10], timeout=20.0)


def claim(store: Store, lane: str = X) -> dict[str, int]:
    """Claim the next records of a lane: body to handle."""
    claimed = store.claim(lane, max_records=100, max_bytes=10**9, timeout=20.0)
    return {one.body.decode(): one.handle for one in claimed.claims}


def kill_after_claim(fleet: Fleet, times: int, *lanes: str) -> list[list[str]]:
    """Let processes claim once from each lane and be killed, and return what the last one has claimed."""
    claimed: list[list[str]] = []
    for _ in range(times):
        store = fleet.start()
        claimed = [list(claim(store, lane)) for lane in lanes]
        assert fleet.recover(store) == (0, 0)
    return claimed


# --- the contract of stores -----------------------------------------------------------------------


def test_a_record_that_ends_its_processes_becomes_a_dead_letter_alone(fleet: Fleet) -> None:
    store = fleet.start()
    put(store, X, "poison", "b", "c")
    assert kill_after_claim(fleet, SUSPECT_TAKEOVERS, X) == [["poison", "b", "c"]]
    assert kill_after_claim(fleet, MAX_TAKEOVERS - SUSPECT_TAKEOVERS - 1, X) == [["poison"]]

    last = fleet.start()
    assert list(claim(last)) == ["poison"]
    assert fleet.recover(last) == (0, 1)

    [letter] = store.find(DeadLetterQuery(lane=X))
    assert (letter.body, letter.failure) == (b"poison", POISON)
    for body in ("b", "c"):
        [(found, handle)] = claim(store).items()
        assert found == body
        store.settle(X, [Outcome(handles=[handle], counter="delivered")], timeout=20.0)
    assert store.counts(X) == {"captured": 3, "delivered": 2, "dead": 1, "pending": 0}


def test_suspects_of_other_lanes_are_not_counted(fleet: Fleet) -> None:
    """Each process begins with the innocent record, which is in flight when the other one ends the process."""
    store = fleet.start()
    put(store, X, "poison")
    put(store, Y, "innocent", "another")
    kill_after_claim(fleet, SUSPECT_TAKEOVERS, Y, X)

    assert kill_after_claim(fleet, MAX_TAKEOVERS - SUSPECT_TAKEOVERS - 1, Y, X) == [["innocent"], ["poison"]]
    last = fleet.start()
    claim(last, Y)
    claim(last, X)
    assert fleet.recover(last) == (0, 1)

    assert kill_after_claim(fleet, MAX_TAKEOVERS - SUSPECT_TAKEOVERS - 1, Y) == [["innocent"]]
    assert [one.body for one in store.find(DeadLetterQuery())] == [b"poison"]


def test_a_suspect_that_was_handled_and_waits_for_a_retry_is_not_counted(fleet: Fleet) -> None:
    store = fleet.start()
    put(store, X, "a")
    kill_after_claim(fleet, SUSPECT_TAKEOVERS, X)
    for _ in range(MAX_TAKEOVERS):
        waiting = fleet.start()
        handles = list(claim(waiting).values())
        waiting.settle(X, [Outcome(handles=handles)], timeout=20.0)
        assert [one.handle for one in waiting.claimed(X).claims] == handles
        assert fleet.recover(waiting) == (0, 0)
    assert list(claim(store)) == ["a"]


def test_an_orderly_release_is_not_counted(fleet: Fleet) -> None:
    store = fleet.start()
    put(store, X, "a", "b")
    for _ in range(MAX_TAKEOVERS):
        ending = fleet.start()
        assert list(claim(ending)) == ["a", "b"]
        ending.close()
        store.recover(UNKNOWN, POISON)
    kill_after_claim(fleet, SUSPECT_TAKEOVERS, X)
    for _ in range(MAX_TAKEOVERS):
        ending = fleet.start()
        assert list(claim(ending)) == ["a"]
        ending.close()
        store.recover(UNKNOWN, POISON)
    kill_after_claim(fleet, MAX_TAKEOVERS - SUSPECT_TAKEOVERS - 1, X)
    assert list(claim(store)) == ["a"]


def test_a_suspect_in_flight_has_an_unknown_outcome(fleet: Fleet) -> None:
    store = fleet.start()
    put(store, X, "a")
    kill_after_claim(fleet, MAX_TAKEOVERS - 1, X)
    sending = fleet.start()
    sending.mark_in_flight(X, list(claim(sending).values()), timeout=20.0)

    assert fleet.recover(sending) == (1, 0)

    assert [one.failure for one in store.find(DeadLetterQuery())] == [UNKNOWN]


def test_a_requeued_dead_letter_begins_again(fleet: Fleet) -> None:
    store = fleet.start()
    put(store, X, "a", "b")
    kill_after_claim(fleet, MAX_TAKEOVERS - 1, X)
    last = fleet.start()
    claim(last)
    fleet.recover(last)

    assert store.requeue(DeadLetterQuery(reason="internal_error")) == 1

    assert list(claim(store)) == ["b"]
    assert kill_after_claim(fleet, SUSPECT_TAKEOVERS, X) == [["a"]]


def test_a_record_that_was_taken_over_can_be_dropped(fleet: Fleet) -> None:
    store = fleet.start()
    put(store, X, "a")
    last = fleet.start()
    handles = list(claim(last).values())
    fleet.recover(last)

    assert store.discard(X, handles, counter="erased") == 1

    assert store.counts(X) == {"captured": 1, "erased": 1, "dead": 0, "pending": 0}


def test_a_claim_ends_before_a_suspect() -> None:
    assert next_claim([], 100) == (0, False)
    assert next_claim([(200, 0), (1, 0)], 100) == (1, False)
    assert next_claim([(10, 0), (10, SUSPECT_TAKEOVERS - 1), (10, SUSPECT_TAKEOVERS)], 100) == (2, False)
    assert next_claim([(200, SUSPECT_TAKEOVERS), (1, 0)], 100) == (1, True)


# --- queues ---------------------------------------------------------------------------------------


def test_a_failed_call_ends_the_trial_of_its_record(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "spool.db"
    spool = sqlite_spool(path)
    enter(spool, [event("a")])
    for attempt in range(2 * MAX_TAKEOVERS):
        queue = spool.lane(LANE)
        [entry] = queue.claim(10, 10**9)
        queue.mark_in_flight([entry], durably=False)
        if attempt < MAX_TAKEOVERS + 1:
            queue.clear_in_flight([entry], durably=False)
        abandon(spool)
        spool = sqlite_spool(path)
        spool.maintain()
        if counts(spool.lane(LANE)).get("dead"):
            break

    assert attempt == MAX_TAKEOVERS + 1 + MAX_TAKEOVERS - SUSPECT_TAKEOVERS - 1
    [letter] = spool.lane(LANE).dead_letters()
    assert (labels([letter]), letter.reason, letter.attempts) == (["a"], "internal_error", MAX_TAKEOVERS)
    assert "1 records became dead letters (internal_error), because 5 processes ended" in caplog.text
    spool.lane(LANE).close()
    spool.close()


# --- processes ------------------------------------------------------------------------------------

LETHAL = """
def before_send(record, destination):
    if record["name"] == "poison":
        die()
    return record


client = make(before_send=before_send)
"""


@pytest.mark.processes
@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_a_record_that_kills_its_worker_is_a_dead_letter_and_the_others_are_delivered(
    store: str, tmp_path: Path
) -> None:
    namespace = f"test-{uuid4().hex}"
    path: Any = tmp_path / "spool.db" if store == "sqlite" else f"{need_redis()}?namespace={namespace}"
    with Server() as server, ExitStack() as stack:
        if store == "redis":
            stack.callback(empty_redis, path)
            client = stack.enter_context(redis.Redis.from_url(need_redis(), protocol=2))

        def end_leases() -> None:
            if store == "redis":
                for owner in client.zrange(f"{{{namespace}}}:owners", 0, -1):
                    client.zadd(f"{{{namespace}}}:owners", {owner: 0})

        finish(
            start(
                "client = make(delivery='relay')\nfor name in ('a', 'poison', 'b'): capture(client, name)", server, path
            )
        )
        for _ in range(MAX_TAKEOVERS):
            end_leases()
            finish(start(f"{LETHAL}client.flush(20)\n", server, path), code=-signal.SIGKILL)
        end_leases()

        deliver(server, path)

        assert names(server).keys() == {"a", "b"}
