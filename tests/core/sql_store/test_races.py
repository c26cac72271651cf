"""Processes that use a SQL store at once, each of which would change the same rows as the other."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest

from sessionsight.sql_store import maintenance
from sessionsight.sqlalchemy.store import SqlAlchemyStore
from sessionsight.stores import CAPTURED, DeadLetterQuery, Failure, NewRecord, Outcome, StoreBusy
from tests.core.sqlalchemy_databases import execute, sqlalchemy_database, sqlalchemy_store
from tests.support.server import PATIENCE, until

LANE = "analyse"
FAILURE = Failure(reason="refused", message="no such goal")
_WAITING = {
    "postgresql": "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
    # Of any session, since `innodb_trx` is read from a cache that is not renewed while somebody reads it often.
    "mariadb": "SELECT 1 FROM information_schema.global_status"
    " WHERE variable_name = 'INNODB_ROW_LOCK_CURRENT_WAITS' AND variable_value > 0",
}

T = TypeVar("T")
Open = Callable[..., SqlAlchemyStore]


@pytest.fixture(params=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with sqlalchemy_database(request.param, tmp_path, reuse=True) as url:
        yield url


@pytest.fixture
def open_store(database: str) -> Iterator[Open]:
    """Opens stores, each of which is one process."""
    with ExitStack() as stores:

        def open_store(**options: Any) -> SqlAlchemyStore:
            store = sqlalchemy_store(database, **options)
            stores.callback(store.close)
            return store

        yield open_store


@pytest.fixture
def interleave(database: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, Any]]:
    """Interleaves two calls, as the function of this name says."""

    def interleave(
        store: SqlAlchemyStore, statement: str, first: Callable[[], Any], second: Callable[[], Any]
    ) -> tuple[Any, Any]:
        """Run a call of a store until it is about to execute a statement, then another until it waits or has ended."""
        reached, go = threading.Event(), threading.Event()
        run = store._own.run

        def run_paused(step: Callable[[Any], T], *args: Any, **options: Any) -> T:
            def paused(cursor: Any) -> T:
                execute_now = cursor.execute

                def execute_later(text: str, parameters: Any = ()) -> None:
                    if text.startswith(statement) and not reached.is_set():
                        reached.set()
                        assert go.wait(PATIENCE)
                    execute_now(text, parameters)

                cursor.execute = execute_later
                return step(cursor)

            return run(paused, *args, **options)

        monkeypatch.setattr(store._own, "run", run_paused)
        with ThreadPoolExecutor(2) as pool:
            one = pool.submit(first)
            try:
                assert reached.wait(PATIENCE)
                two = pool.submit(second)
                until(lambda: two.done() or waits_for_a_lock(database), "the second call waits for the first")
            finally:
                go.set()
            return one.result(PATIENCE), two.result(PATIENCE)

    return interleave


def waits_for_a_lock(url: str) -> bool:
    return bool(execute(url, _WAITING[url.partition("+")[0]]))


def add(store: SqlAlchemyStore, *names: str, **options: Any) -> None:
    """Add events to one lane, whose bodies are their names."""
    fields = {"priority": 1, "size": 500, "enqueued_at": time.time(), **options}
    records = [NewRecord(lanes=[LANE], body=name.encode(), **fields) for name in names]
    counts = {(LANE, CAPTURED): len(names)}
    store.enqueue(records, counts, batch_id=secrets.token_bytes(8), timeout=PATIENCE)
    store.stats()  # which takes them in


def claim(store: SqlAlchemyStore) -> list[int]:
    claimed = store.claim(LANE, max_records=99, max_bytes=10**9, timeout=PATIENCE)
    return [one.handle for one in claimed.claims]


def again(call: Callable[[], Any]) -> Callable[[], Any]:
    """Repeat a call that MariaDB has undone because it found a deadlock."""

    def repeated() -> Any:
        try:
            return call()
        except StoreBusy:
            return call()

    return repeated


def end_leases(url: str) -> None:
    execute(url, "UPDATE sessionsight_owner SET expires_at = 0")


def ledger(store: SqlAlchemyStore) -> dict[str, int]:
    """The lane's counters that are not 0."""
    return {counter: number for counter, number in store.counts(LANE).items() if number}


def queued(store: SqlAlchemyStore) -> list[str]:
    return sorted(found.body.decode() for found in store.search(LANE, b""))


def dead(store: SqlAlchemyStore) -> list[str]:
    return sorted(found.body.decode() for found in store.find(DeadLetterQuery()))


def test_two_retries_at_once_queue_each_dead_letter_once(open_store: Open, interleave: Any) -> None:
    one, other = open_store(), open_store()
    add(one, "a", "b", "c", failure=FAILURE)
    numbers = interleave(
        one,
        "DELETE FROM sessionsight_dead_letter",
        lambda: one.requeue(DeadLetterQuery()),
        lambda: other.requeue(DeadLetterQuery()),
    )
    assert sum(numbers) == 3
    assert (queued(one), dead(one)) == (["a", "b", "c"], [])
    assert ledger(one) == {"captured": 3, "pending": 3}


def test_a_letter_that_dies_while_a_retry_runs_stays_a_dead_letter(open_store: Open, interleave: Any) -> None:
    retrying, other = open_store(), open_store()
    add(other, "a", "b", failure=FAILURE)
    number, _ = interleave(
        retrying,
        "DELETE FROM sessionsight_dead_letter",
        lambda: retrying.requeue(DeadLetterQuery(lane=LANE)),
        lambda: add(other, "later", failure=FAILURE),
    )
    assert number == 2
    assert (queued(other), dead(other)) == (["a", "b"], ["later"])
    assert ledger(other) == {"captured": 3, "pending": 2, "dead": 1}


def test_dead_letters_that_two_processes_delete_at_once_are_counted_once(open_store: Open, interleave: Any) -> None:
    one, other = open_store(), open_store()
    add(one, "a", "b", "c", failure=FAILURE)
    expired = DeadLetterQuery(died_before=time.time() + 1000)
    numbers = interleave(
        one,
        "DELETE FROM sessionsight_dead_letter",
        lambda: one.delete(expired, counter="dead_letters_expired"),
        lambda: other.delete(expired, counter="dead_letters_expired"),
    )
    assert sum(numbers) == 3
    assert ledger(one) == {"captured": 3, "dead_letters_expired": 3}


def test_a_process_that_continues_while_its_claims_are_recovered_holds_none_of_them(
    database: str, open_store: Open, interleave: Any
) -> None:
    stopped, recovering = open_store(), open_store()
    add(stopped, "sent", "sent_too", "claimed", "claimed_too")
    handles = claim(stopped)
    stopped.mark_in_flight(LANE, handles[:2], timeout=PATIENCE)
    end_leases(database)

    def go_on() -> set[int]:
        stopped.settle(LANE, [Outcome(handles=handles[:1], counter="delivered")], timeout=PATIENCE)
        return stopped.mark_in_flight(LANE, handles[2:3], timeout=PATIENCE)[1]

    recovered = interleave(
        recovering, "DELETE FROM sessionsight_queue", lambda: recovering.recover(FAILURE, FAILURE), go_on
    )
    assert recovered == ((2, 0), set())
    assert (queued(stopped), dead(stopped)) == (["claimed", "claimed_too"], ["sent", "sent_too"])
    assert ledger(stopped) == {"captured": 4, "pending": 2, "dead": 2}


def test_a_failure_that_is_settled_while_its_claim_is_recovered_has_one_outcome(
    database: str, open_store: Open, interleave: Any
) -> None:
    stopped, recovering = open_store(), open_store()
    add(stopped, "failed", "claimed")
    handles = claim(stopped)
    end_leases(database)
    interleave(
        stopped,
        "DELETE FROM sessionsight_queue",
        again(lambda: stopped.settle(LANE, [Outcome(handles=handles[:1], failure=FAILURE)], timeout=PATIENCE)),
        again(lambda: recovering.recover(FAILURE, FAILURE)),
    )
    assert sorted(queued(stopped) + dead(stopped)) == ["claimed", "failed"]
    found = stopped.counts(LANE)
    assert (found["captured"], found["pending"] + found["dead"]) == (2, 2)


def test_two_processes_that_evict_at_once_evict_what_one_would(
    open_store: Open, interleave: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_MAX_EVICTIONS", 6)  # one does not lock all of the queue
    one, other = open_store(spool_bytes=7500), open_store(spool_bytes=7500)
    add(one, *(f"{number:02}" for number in range(20)))
    interleave(one, "DELETE FROM sessionsight_queue", one.maintain, other.maintain)
    assert ledger(one) == {"captured": 20, "pending": 15, "queue_full": 5}
    assert queued(one) == [f"{number:02}" for number in range(5, 20)]
