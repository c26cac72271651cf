"""Records that end the processes that handle them: the contract of every store, and real processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from sessionsight.delivery.stores.base import MAX_TAKEOVERS, SUSPECT_TAKEOVERS, DeadLetterQuery, Outcome, next_claim
from tests.core.delivery.fleets import STORES, UNKNOWN, Fleet, X, Y, claim, put, run_fleet
from tests.core.delivery.kit import event, labels
from tests.core.delivery.spool_processes import deliver, finish, names, start
from tests.core.delivery.spools import LANE, POISON, abandon, counts, empty_redis, enter, sqlite_spool
from tests.support.brokers import need_redis
from tests.support.server import Server


@pytest.fixture(params=STORES)
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    with run_fleet(request.param, tmp_path) as fleet:
        yield fleet


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
