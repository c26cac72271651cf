"""How far a process has claimed, by which another one finds its claims."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sessionsight.sql_store import reach
from sessionsight.sqlalchemy.store import SqlAlchemyStore
from sessionsight.stores import CAPTURED, Failure, NewRecord
from tests.core.sqlalchemy_databases import ENGINES, execute, sqlalchemy_database, sqlalchemy_store
from tests.support.clock import RunningClock
from tests.support.own_transactions import observe, transaction
from tests.support.server import PATIENCE

LANE = "analyse"
FAILURE = Failure(reason="refused", message="no such goal")


@pytest.fixture(params=ENGINES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with sqlalchemy_database(request.param, tmp_path, reuse=True) as url:
        yield url


@pytest.fixture
def store(database: str) -> Iterator[SqlAlchemyStore]:
    store = sqlalchemy_store(database)
    yield store
    store.close()


@pytest.fixture
def ended(database: str) -> Iterator[SqlAlchemyStore]:
    """A process whose lease is over after each claim."""
    store = sqlalchemy_store(database)
    store.lease = -1.0
    yield store
    store.close()


def add(store: SqlAlchemyStore, number: int, *, lane: str = LANE, priority: int = 1) -> None:
    """Add records to the queue of a lane."""
    one = NewRecord(lanes=[lane], body=b"b", priority=priority, size=500, enqueued_at=0.0)
    store.enqueue([one] * number, {(lane, CAPTURED): number}, batch_id=secrets.token_bytes(8), timeout=PATIENCE)
    store.stats()  # which takes them in


def claim(store: SqlAlchemyStore, number: int = 99, *, lane: str = LANE) -> list[int]:
    claimed = store.claim(lane, max_records=number, max_bytes=10**9, timeout=PATIENCE)
    return [one.handle for one in claimed.claims]


def test_claims_of_all_lanes_and_priorities_are_found_however_far_they_go(
    database: str, store: SqlAlchemyStore, ended: SqlAlchemyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "AHEAD", 1)
    for _ in range(2):
        for lane in (LANE, "signal"):
            for priority in (1, 0):
                add(store, 3, lane=lane, priority=priority)
    claimed = {lane: [id_ for _ in range(6) for id_ in claim(ended, 2, lane=lane)] for lane in (LANE, "signal")}
    assert all(len(found) == 12 for found in claimed.values())
    assert execute(database, "SELECT count(*) FROM sessionsight_reach") == [(4,)]  # each extension replaces one

    assert (claim(store), claim(store, lane="signal")) == ([], [])
    store.recover(FAILURE, FAILURE)
    assert {lane: claim(store, lane=lane) for lane in claimed} == claimed
    assert execute(database, "SELECT DISTINCT owner FROM sessionsight_reach") == [(store.owner,)]


def test_a_claim_seldom_writes_what_is_reached(store: SqlAlchemyStore) -> None:
    add(store, 9)
    claim(store, 1)
    with transaction(store._own, PATIENCE) as cursor:
        assert reach.extend(cursor, LANE, store.owner, store._reach, [(1, max(store._reach.values()))]) == {}
        above = max(store._reach.values()) + 1
        extended = reach.extend(cursor, LANE, store.owner, store._reach, [(1, above)])
    assert extended == {(LANE, 1): above + reach.AHEAD}


def test_what_is_reached_is_written_again_within_a_minute(database: str, store: SqlAlchemyStore) -> None:
    add(store, 3)
    first = claim(store, 1)
    execute(database, "DELETE FROM sessionsight_reach")  # a standby became the server, and had not yet received it
    second = claim(store, 1)
    with transaction(store._own, PATIENCE) as cursor:
        assert reach.claims_of(cursor, store.owner) == []
    assert isinstance(store._clock, RunningClock)
    store._clock.advance(61.0)
    third = claim(store, 1)
    with transaction(store._own, PATIENCE) as cursor:
        assert reach.claims_of(cursor, store.owner) == first + second + third


def test_later_claims_of_a_process_that_was_given_up_are_found_as_well(
    store: SqlAlchemyStore, ended: SqlAlchemyStore
) -> None:
    add(store, 3)
    [one] = claim(ended, 1)
    store.recover(FAILURE, FAILURE)
    assert claim(store, 1) == [one]
    ended.recover(FAILURE, FAILURE)  # it was only stopped, and now is an owner again
    others = claim(ended)
    assert len(others) == 2  # which it had reached before
    store.recover(FAILURE, FAILURE)
    assert claim(store) == others


def test_a_claim_whose_answer_was_lost_is_found(
    store: SqlAlchemyStore, ended: SqlAlchemyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "AHEAD", 0)
    add(store, 3)
    known = dict(ended._reach)
    first = claim(ended, 2)
    ended._reach = known  # as if the commit had raised an error
    assert [one.handle for one in ended.claimed(LANE).claims] == first
    assert [one.handle for one in ended.claimed("signal").claims] == []
    last = claim(ended)
    store.recover(FAILURE, FAILURE)
    assert claim(store) == first + last


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_claim_waits_for_the_disk_of_postgresql_if_it_writes_what_is_reached(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c synchronous_commit=local")
    store = sqlalchemy_store(database)
    add(store, 2)
    seen = observe(store._own, "SHOW synchronous_commit")
    assert [len(claim(store, 1)), len(claim(store, 1))] == [1, 1]
    store.close()
    assert seen[:2] == [("local",), ("off",)]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_postgresql_claims_and_marks_records_in_place(store: SqlAlchemyStore) -> None:
    add(store, 3)
    updates = "pg_stat_get_xact_tuples_{}updated('sessionsight_queue'::regclass)"
    seen = observe(store._own, f"SELECT {updates.format('')}, {updates.format('hot_')}")
    store.mark_in_flight(LANE, claim(store), timeout=PATIENCE)
    assert len(seen) == 2
    assert all(updated == in_place > 0 for updated, in_place in seen)


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_few_of_many_records_are_read_to_find_claims(
    database: str, store: SqlAlchemyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "AHEAD", 100)
    add(store, 5)
    claimed = claim(store)
    for lane in ("signal", LANE):
        add(store, 3000, lane=lane)
    vendor = database.partition("+")[0]
    execute(database, f"ANALYZE {'TABLE ' if vendor == 'mariadb' else ''}sessionsight_queue")
    explained: list[str] = []
    with transaction(store._own, PATIENCE) as cursor:
        execute_now = cursor.execute

        def explain(statement: str, parameters: Any = ()) -> None:
            if "sessionsight_queue" in statement:
                execute_now(f"EXPLAIN {statement}", parameters)
                explained.append(str(cursor.fetchall()))
            execute_now(statement, parameters)

        cursor.execute = explain
        assert reach.claims_of(cursor, store.owner) == claimed
    assert len(explained) == 1
    assert "sessionsight_queue_order" in explained[0] or "sessionsight_queue_pkey" in explained[0]
