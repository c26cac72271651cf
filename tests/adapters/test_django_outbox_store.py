"""The store in the app's own database: claims, maintenance, and a connection that is lost."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.adapters.outbox_databases import (
    ENGINES,
    close_connection,
    outbox_database,
    outbox_spool,
    outbox_store,
    rows,
)

# isort: split
from django.db import connections
from django.db.transaction import atomic as transaction_of_the_app

from sessionsight.sql_store import ledger, maintenance
from sessionsight.sql_store.connection import OwnConnection
from sessionsight.sql_store.dialect import UNCLAIMED, marks
from sessionsight.stores import (
    AnswerLost,
    DeadLetterQuery,
    Failure,
    NewRecord,
    Outcome,
    ReentrantCall,
    StoreBusy,
    StoreUnavailable,
)
from sessionsight_django.outbox.connection import own_connection
from sessionsight_django.outbox.store import DjangoStore
from tests.support.clock import RunningClock
from tests.support.interpreter import FREE_THREADED
from tests.support.own_transactions import transaction
from tests.support.server import PATIENCE, until

LANE = "analyse"
POISON = Failure(reason="internal_error", message="5 processes ended")
FAILURE = Failure(reason="refused", message="no such goal\0\ud800", status=400, attempts=1)


@pytest.fixture(params=ENGINES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with outbox_database(request.param, tmp_path) as alias:
        yield alias


@pytest.fixture
def store(database: str) -> Iterator[DjangoStore]:
    store = outbox_store(database)
    yield store
    store.close()


def add(store: DjangoStore, *names: str, batch_id: bytes = b"", **options: Any) -> None:
    """Add events to one lane, whose bodies are their names."""
    fields = {"priority": 1, "size": 100, "enqueued_at": 1000.0, **options}
    records = [NewRecord(lanes=[LANE], body=name.encode(), **fields) for name in names]
    store.enqueue(
        records, {(LANE, "captured"): len(names)}, batch_id=batch_id or " ".join(names).encode(), timeout=20.0
    )


def claim(store: DjangoStore) -> dict[str, int]:
    """Claim all that is ready: body to handle."""
    claimed = store.claim(LANE, max_records=99, max_bytes=10**9, timeout=20.0)
    return {one.body.decode(): one.handle for one in claimed.claims}


def advance(store: DjangoStore) -> None:
    """Let the next maintenance be due."""
    assert isinstance(store._clock, RunningClock)
    store._clock.advance(61.0)
    store.maintain()


# --- claims -----------------------------------------------------------------------------------------


def test_claims_of_a_process_whose_lease_is_over_are_recovered(store: DjangoStore, database: str) -> None:
    add(store, "a", "b", "c")
    ended = outbox_store(database)
    ended.lease = -1.0
    held = claim(ended)
    ended.mark_in_flight(LANE, [held["a"]], timeout=20.0)
    assert [one.handle for one in ended.claimed(LANE).claims] == [held["b"], held["c"]]

    assert claim(store) == {}
    assert store.recover(FAILURE, POISON) == (1, 0)

    assert ended.mark_in_flight(LANE, [held["a"], held["b"]], timeout=20.0) == (1, set())
    assert claim(store) == {"b": held["b"], "c": held["c"]}
    [letter] = store.find(DeadLetterQuery(reason="refused"))
    assert (letter.handle, letter.failure.message) == (held["a"], "no such goal?")
    assert store.requeue(DeadLetterQuery(ids=(letter.id,))) == 1
    assert list(claim(store)) == ["a"]
    assert store.stats().lanes[LANE].balanced
    ended.close()


def test_claims_in_flight_of_a_process_that_ends_are_recovered_at_once(store: DjangoStore, database: str) -> None:
    add(store, "a", "b")
    ended = outbox_store(database)
    ended.mark_in_flight(LANE, [claim(ended)["a"]], timeout=20.0)
    ended.close()
    assert list(claim(store)) == ["b"]
    assert (store.stats().owners, store.stats().claimed) == (2, {LANE: 2})
    assert store.recover(None, POISON) == (0, 0)
    assert list(claim(store)) == ["a"]


def test_two_processes_claim_different_records(store: DjangoStore, database: str) -> None:
    add(store, "a", "b", "c")
    other = outbox_store(database)
    first = other.claim(LANE, max_records=2, max_bytes=10**9, timeout=20.0)
    assert [one.body for one in first.claims] == [b"a", b"b"]
    assert first.more
    assert list(claim(store)) == ["c"]
    handles = [one.handle for one in first.claims]
    assert store.owned_or_ready(LANE, handles, timeout=20.0) == set()
    assert other.owned_or_ready(LANE, handles, timeout=20.0) == {*handles}
    assert store.discard(LANE, handles, counter="erased") == 0
    other.close()


def test_a_record_below_the_last_claim_is_found_within_a_minute(store: DjangoStore, database: str) -> None:
    add(store, "a", "b")
    other = outbox_store(database)
    other.claim(LANE, max_records=1, max_bytes=10**9, timeout=20.0)
    assert list(claim(store)) == ["b"]
    other.close()  # which makes the first ready again
    assert (claim(store), store.ready()) == ({}, [])
    advance(store)
    assert store.ready() == [LANE]
    assert list(claim(store)) == ["a"]


def test_a_claim_does_not_wait_until_a_long_inbox_is_taken_in(
    store: DjangoStore, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessionsight.sql_store.inbox._BATCH", 2)
    monkeypatch.setattr("sessionsight.sql_store.store._COUNTED_BATCHES", 2)
    for name in "abcdefg":
        add(store, name)
    found = []
    for left in (5, 5, 3, 3, 1, 1, 0):
        claimed = store.claim(LANE, max_records=1, max_bytes=10**9, timeout=20.0)
        found += [one.body.decode() for one in claimed.claims]
        assert rows(database, "inbox") == left
        assert claimed.more is (left > 0)
    assert found == [*"abcdefg"]
    assert claim(store) == {}

    for name in "hijkl":
        add(store, name)
    assert (store.counts(LANE)["captured"], rows(database, "inbox")) == (11, 1)
    assert (store.ready(), rows(database, "inbox")) == ([LANE], 0)
    assert [*claim(store)] == [*"hijkl"]


def test_large_hand_overs_are_taken_in_one_by_one(
    store: DjangoStore, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessionsight.sql_store.inbox._BATCH_BYTES", 1)
    for name in "abc":
        add(store, name)
    assert [*claim(store)] == ["a"]
    assert rows(database, "inbox") == 2
    assert [*claim(store)] == ["b"]
    assert store.counts(LANE)["captured"] == 3
    assert rows(database, "inbox") == 0


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_a_claim_reads_no_records_of_other_lanes(store: DjangoStore, database: str) -> None:
    add(store, "a")
    assert list(claim(store)) == ["a"]  # the next one looks above it
    with connections[database].cursor() as cursor:
        for lane in ("other", LANE):
            cursor.executemany(
                "INSERT INTO sessionsight_queue"
                " (lane, priority, size, enqueued_at, claimed_by, in_flight, takeovers, body)"
                f" VALUES ({marks(range(8))})",
                [(lane, 1, 100, 0, UNCLAIMED, 0, 0, b"b" * 900)] * 5000,
            )
        cursor.execute("ANALYZE TABLE sessionsight_queue")
        cursor.fetchall()
    with transaction(store._own, 20.0) as cursor:
        cursor.execute("FLUSH STATUS")
    assert len(store.claim(LANE, max_records=99, max_bytes=10**9, timeout=20.0).claims) == 99
    with transaction(store._own, 20.0) as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read_next'")
        assert int(cursor.fetchone()[1]) < 200


# --- hand-overs ---------------------------------------------------------------------------------------


def test_a_repeated_write_counts_once_also_after_it_was_taken_in(store: DjangoStore) -> None:
    for _ in range(2):
        add(store, "a", batch_id=b"0123456789")
    assert store.counts(LANE) == {"captured": 1, "pending": 1, "dead": 0}
    add(store, "a", batch_id=b"0123456789")
    assert store.counts(LANE) == {"captured": 1, "pending": 1, "dead": 0}


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
@pytest.mark.parametrize("number", [1, 20])
def test_a_relay_does_not_wait_for_transactions_of_the_app(store: DjangoStore, database: str, number: int) -> None:
    for name in range(number):
        add(store, f"{name}")
    with transaction_of_the_app(using=database), connections[database].cursor() as cursor:
        cursor.execute("INSERT INTO sessionsight_inbox (batch_id, body, created_at) VALUES ('open', %s, 0)", [b"open"])
        assert len(claim(store)) == number


def test_a_hand_over_of_another_release_is_a_dead_letter(store: DjangoStore, database: str) -> None:
    add(store, "a")
    with connections[database].cursor() as cursor:
        cursor.execute("INSERT INTO sessionsight_inbox (batch_id, body, created_at) VALUES ('b', %s, 0)", [b"newer"])
    assert list(claim(store)) == ["a"]
    [letter] = store.find(DeadLetterQuery(lane="unreadable"))
    assert (letter.body, letter.failure.reason) == (b"newer", "internal_error")
    assert store.stats().lanes["unreadable"].balanced


def test_a_record_that_comes_as_a_dead_letter_is_one(store: DjangoStore) -> None:
    add(store, "a", failure=FAILURE)
    assert [(one.body, one.failure.status) for one in store.find(DeadLetterQuery(contains=b"a"))] == [(b"a", 400)]
    assert store.counts(LANE) == {"captured": 1, "pending": 0, "dead": 1}
    assert store.delete(DeadLetterQuery(lane=LANE, died_after=0.0), counter="erased") == 1
    assert store.counts(LANE) == {"captured": 1, "pending": 0, "dead": 0, "erased": 1}


def test_many_pending_records_are_not_counted_one_by_one(store: DjangoStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessionsight.sql_store.ledger._MAX_COUNTED", 2)
    add(store, "a", failure=FAILURE)
    add(store, *"bcdefgh")
    [one, *_] = claim(store).values()
    store.settle(LANE, [Outcome(handles=[one], counter="delivered")], timeout=20.0)
    expected = {"captured": 8, "pending": 6, "dead": 1, "delivered": 1}
    assert store.counts(LANE) == expected
    assert store.stats().lanes[LANE].pending == 6
    assert store.stats().lanes[LANE].balanced


def test_counters_of_many_batches_are_merged_at_once(
    store: DjangoStore, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessionsight.sql_store.maintenance._MERGED", 3)
    for name in "abcdefgh":
        add(store, name)
        claim(store)
    advance(store)
    assert rows(database, "count") < 3
    assert store.counts(LANE)["captured"] == 8


def test_the_size_of_the_queues_is_estimated_from_the_ledger(database: str) -> None:
    store = outbox_store(database, spool_bytes=1000)
    add(store, "a", "b")
    add(store, "c", failure=FAILURE)
    assert store._run(ledger.estimated_bytes) == 0.0  # they are in the inbox
    assert len(claim(store)) == 2
    assert store._run(ledger.estimated_bytes) == 200.0
    store.close()


def test_a_lane_is_not_empty_while_the_inbox_is_long(store: DjangoStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessionsight.sql_store.store._COUNTED_BATCHES", 1)
    monkeypatch.setattr("sessionsight.sql_store.inbox._BATCH", 1)
    add(store, "a")
    add(store, "b")
    for _ in range(2):  # each takes in one of them, and cannot know that there are no more
        assert store.unresolved(LANE) == (0, 2**63 - 1)
    handles = claim(store).values()
    assert store.unresolved(LANE) == (min(handles), max(handles))


# --- maintenance --------------------------------------------------------------------------------------


def test_the_oldest_events_are_dropped_before_goals_when_the_queues_are_too_large(database: str) -> None:
    store = outbox_store(database, spool_bytes=250)
    add(store, "goal", priority=0)
    add(store, "a", "b", "c")
    assert store.counts(LANE)["pending"] == 4
    advance(store)
    assert store.counts(LANE) == {"captured": 4, "pending": 2, "dead": 0, "queue_full": 2}
    assert list(claim(store)) == ["goal", "c"]
    advance(store)  # what is claimed is not dropped
    assert store.counts(LANE)["queue_full"] == 2
    store.close()


def test_the_sizes_of_all_records_count_even_if_the_ledger_tells_of_few(database: str) -> None:
    store = outbox_store(database, spool_bytes=250)
    add(store, "a", "b", "c")
    assert store.counts(LANE)["pending"] == 3
    with connections[database].cursor() as cursor:
        cursor.execute("DELETE FROM sessionsight_count")  # as a restored copy may lack them
    for exact, left in ((False, 3), (True, 2)):
        store._run(partial(maintenance.maintain, options=store._options, exact=exact))
        assert rows(database, "queue") == left
    store.close()


def test_counters_that_are_all_different_are_merged_once(store: DjangoStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessionsight.sql_store.maintenance._MERGED", 2)
    for counter in ("captured", "delivered"):
        store.enqueue([], {(LANE, counter): 1}, batch_id=counter.encode(), timeout=20.0)
    assert store.counts(LANE)["delivered"] == 1
    advance(store)
    assert store.counts(LANE)["delivered"] == 1


def test_a_queue_that_is_too_large_keeps_what_is_claimed(database: str) -> None:
    store = outbox_store(database, spool_bytes=1)
    add(store, "a")
    assert list(claim(store)) == ["a"]
    advance(store)
    assert store.counts(LANE) == {"captured": 1, "pending": 1, "dead": 0}
    store.close()


def test_old_dead_letters_keys_and_ids_of_writes_are_deleted_and_counters_are_merged(database: str) -> None:
    store = outbox_store(database, dead_letters_max_age=0.001, dedupe_window=60.0)
    add(store, "a", dedupe_key="order:1")
    add(store, "b", failure=FAILURE)
    held = claim(store)
    store.settle(LANE, [Outcome(handles=[held["a"]], counter="delivered")], timeout=20.0)
    with connections[database].cursor() as cursor:
        cursor.execute("UPDATE sessionsight_dead_letter SET died_at = 0")
        cursor.execute("UPDATE sessionsight_batch SET seen_at = 0")
    advance(store)
    expected = {"captured": 2, "pending": 0, "dead": 0, "delivered": 1, "dead_letters_expired": 1}
    assert store.counts(LANE) == expected
    assert [rows(database, table) for table in ("key", "batch", "count")] == [0, 0, 3]
    advance(store)  # nothing is left to do
    assert store.counts(LANE) == expected
    store.maintain()
    store.close()


# --- connections --------------------------------------------------------------------------------------


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
@pytest.mark.parametrize("committing", [True, False])
def test_a_lost_connection_is_replaced(database: str, *, committing: bool) -> None:
    own = own_connection(database)
    with transaction(own) as cursor:
        cursor.execute("SELECT 1")
    with pytest.raises(StoreUnavailable) as raised:
        lose(own, database, committing=committing)
    assert isinstance(raised.value, AnswerLost) is committing
    assert not own.is_open
    with transaction(own) as cursor:
        cursor.execute("SELECT 1")
    own.close()


def lose(own: OwnConnection, alias: str, *, committing: bool) -> None:
    """Lose a connection at the commit, or before it."""
    with transaction(own) as cursor:
        kill_session(alias, cursor)
        if not committing:
            cursor.execute("SELECT 1")


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_a_write_whose_connection_is_lost_is_repeated_and_counts_once(database: str) -> None:
    spool = outbox_spool(database, LANE)
    store = spool.store
    assert isinstance(store, DjangoStore)
    with connections[database].cursor() as cursor:
        kill_session(database, cursor)
    with pytest.raises(AnswerLost):
        add(store, "a", batch_id=b"0123456789")
    close_connection(database)
    for _ in range(2):
        add(store, "a", batch_id=b"0123456789")
    assert store.counts(LANE)["captured"] == 1
    spool.close()


def kill_session(alias: str, cursor: Any) -> None:
    """End the server's side of a connection, from another one."""
    functions = {"postgresql": ("pg_backend_pid()", "SELECT pg_terminate_backend({}, 5000)")}
    current, kill = functions.get(cursor.db.vendor, ("connection_id()", "KILL {}"))
    cursor.execute(f"SELECT {current}")
    [number] = cursor.fetchone()
    other = own_connection(alias)
    with transaction(other) as killer:
        killer.execute(kill.format(number))
    other.close()


def test_a_deadlock_or_a_locked_file_is_a_busy_store(database: str) -> None:
    own, other = own_connection(database), own_connection(database)
    with transaction(own) as cursor:
        cursor.execute("INSERT INTO sessionsight_owner (owner, expires_at, on_trial) VALUES ('a', 0, 0)")
        vendor = cursor.db.vendor
        with pytest.raises(StoreBusy):
            add_owner(other, vendor)
    assert other.is_open is (vendor != "sqlite")
    assert rows(database, "owner") == 1
    own.close()
    other.close()


def add_owner(own: OwnConnection, vendor: str) -> None:
    """Add an owner, without waiting for long."""
    limit = "SET LOCAL lock_timeout = 10" if vendor == "postgresql" else "SET innodb_lock_wait_timeout = 1"
    with transaction(own, 0.01) as cursor:
        cursor.execute(limit)
        cursor.execute("INSERT INTO sessionsight_owner (owner, expires_at, on_trial) VALUES ('a', 0, 0)")


async def test_an_event_loop_is_not_blocked(store: DjangoStore) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be used on an event loop"):
        store.ready()


def test_a_closed_store_is_out_of_reach(store: DjangoStore) -> None:
    store.close()
    with pytest.raises(StoreUnavailable, match="the spool is closed"):
        store.ready()
    store.close()


def test_a_connection_that_is_in_use_is_closed_afterwards(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessionsight.sql_store.connection._CLOSE_TIMEOUT", 0.01)
    own = own_connection(database)
    with in_use(own):
        own.close()  # SQLite's library crashes if another thread closes it meanwhile
        assert not own.is_open
    assert own.run(select_one, 1.0) == (1,)
    own.run(lambda _: own.close(), 1.0)  # as a finalizer does
    own.close()
    assert own.run(select_one, 1.0) == (1,)
    own.close()


def select_one(cursor: Any) -> Any:
    cursor.execute("SELECT 1")
    return cursor.fetchone()


@contextmanager
def in_use(own: OwnConnection) -> Iterator[None]:
    """Another thread uses the connection."""
    entered, leave, found = threading.Event(), threading.Event(), []

    def step(cursor: Any) -> None:
        entered.set()
        assert leave.wait(PATIENCE)
        found.append(select_one(cursor))

    thread = threading.Thread(target=own.run, args=(step, PATIENCE))
    thread.start()
    assert entered.wait(PATIENCE)
    try:
        yield
    finally:
        leave.set()
        thread.join()
    assert found == [(1,)]


def test_a_host_without_threads_writes_on_its_own_thread(
    store: DjangoStore, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    close_connection(database)  # an open one would be used
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(has_threads=False))
    threads = threading.active_count()
    add(store, "a")
    assert list(claim(store)) == ["a"]
    store._own.run(lambda _: store._own.close(), 1.0)  # as a signal handler does
    assert not store._own.is_open
    assert threading.active_count() == threads


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_relays_do_not_conflict_with_transactions_that_are_serializable(database: str) -> None:
    own = own_connection(database)
    with transaction(own) as cursor:
        cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE")
    with transaction(own) as cursor:
        cursor.execute("SHOW transaction_isolation")
        assert cursor.fetchone() == ("read committed",)
    own.close()


def test_a_connection_is_used_by_one_thread_at_a_time(database: str) -> None:
    own = own_connection(database)
    with in_use(own), pytest.raises(StoreBusy, match="other threads are using the connection"):
        own.run(select_one, 0.0)

    def reenter(_: Any) -> None:
        with pytest.raises(ReentrantCall):
            own.run(select_one, 1.0)

    own.run(reenter, 1.0)
    own.close()


def test_a_step_that_takes_too_long_is_left_to_its_thread(database: str) -> None:
    own = own_connection(database)
    leave = threading.Event()
    with pytest.raises(AnswerLost, match="has not answered within 0 s: look whether"):
        own.run(lambda _: leave.wait(PATIENCE), 0.0, patience=0.0)
    leave.set()
    assert own.run(select_one, PATIENCE) == (1,)
    own.close()


def test_an_error_of_a_step_is_raised_and_its_objects_are_released(store: DjangoStore) -> None:
    class Argument:
        """Can be referenced weakly."""

    argument = Argument()
    released = weakref.ref(argument)

    def fail(_: Any, argument: Argument) -> None:
        raise TimeoutError("of the step's own")

    with pytest.raises(TimeoutError, match="of the step's own"):
        store._own.run(partial(fail, argument=argument), 20.0)
    del argument
    if FREE_THREADED:
        gc.collect()  # an object that another thread has used is freed later there
    assert released() is None


def test_a_fork_while_another_thread_starts_a_job(database: str) -> None:
    own = own_connection(database)
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with own._lock:
            held.set()
            assert release.wait(PATIENCE)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(PATIENCE)
    child = os.fork()
    if child == 0:
        signal.alarm(int(PATIENCE))
        own.close()
        os._exit(0)
    release.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0


def test_a_connection_that_is_dropped_is_closed(database: str) -> None:
    own = own_connection(database)
    own.run(select_one, 20.0)
    worker = own._own_worker()
    child = os.fork()
    del own
    gc.collect()
    if child == 0:
        os._exit(0 if worker.connection is not None and not worker._jobs else 1)
    assert os.waitpid(child, 0)[1] == 0
    until(lambda: worker.connection is None, "its thread has closed it")
