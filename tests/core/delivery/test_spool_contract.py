"""The contract of every spool."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from msgspec.structs import replace

from sessionsight.capture.records import DropReason
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.base import Spool
from sessionsight.delivery.queue.memory import MemorySpool
from sessionsight.delivery.stats import RecordStatus
from sessionsight.delivery.stores.base import LaneBatch
from sessionsight.request.context import TrackingContext
from tests.core.delivery.kit import event, goal, labels
from tests.core.delivery.spools import (
    LANE,
    claim,
    counts,
    empty_redis,
    enter,
    flaky_spool,
    letter,
    redis_spool,
    sqlite_spool,
)
from tests.core.sqlalchemy_databases import sqlalchemy_database, sqlalchemy_spool
from tests.support.brokers import need_redis
from tests.support.server import PATIENCE

MakeSpool = Callable[..., Spool]
DATABASES = ("postgresql", "mariadb", "sqlite_orm")
OF_SQLALCHEMY = ("sqlalchemy_postgresql", "sqlalchemy_mariadb", "sqlalchemy_sqlite")
USERS = {name: TrackingContext(user_id=name) for name in ("a", "b", "ab")}


@pytest.fixture(params=["memory", "sqlite", "flaky", "redis", *DATABASES, *OF_SQLALCHEMY])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeSpool]:
    spools: list[Spool] = []
    databases = ExitStack()

    def make_spool(**options: Any) -> Spool:
        if request.param == "memory":
            spools.append(MemorySpool(DeliveryOptions(**options)))
        elif request.param == "redis":
            url = f"{need_redis()}?namespace=test-{uuid4().hex}"
            databases.callback(empty_redis, url)
            spools.append(redis_spool(url, LANE, "other", **options))
        elif request.param in DATABASES:
            from tests.adapters.outbox_databases import outbox_database, outbox_spool  # needs Django

            name = f"outbox{len(spools)}"
            alias = databases.enter_context(outbox_database(request.param, tmp_path, name, reuse="django"))
            spools.append(outbox_spool(alias, LANE, "other", **options))
        elif request.param in OF_SQLALCHEMY:
            engine = request.param.removeprefix("sqlalchemy_")
            url = databases.enter_context(sqlalchemy_database(engine, tmp_path, reuse=True))
            spools.append(sqlalchemy_spool(url, LANE, "other", **options))
        elif request.param == "flaky":  # it has the members of the protocol only, and fails if a test says so
            spools.append(flaky_spool(tmp_path / f"spool-{len(spools)}.db", LANE, "other", **options))
        else:
            spools.append(sqlite_spool(tmp_path / f"spool-{len(spools)}.db", LANE, "other", **options))
        return spools[-1]

    yield make_spool
    for spool in spools:
        for lane in (LANE, "other"):
            spool.lane(lane).close()
        spool.close()
    databases.close()


def test_every_record_is_in_exactly_one_counter(make: MakeSpool) -> None:
    spool = make()
    queue = spool.lane(LANE)
    enter(spool, [event(name) for name in "abcdef"], [DropReason.NO_IDENTITY, DropReason.NO_IDENTITY])
    a, b, c, d = claim(queue, 4)

    queue.ack([a])
    queue.drop([b], DropReason.BEFORE_SEND)
    queue.dead_letter([letter(c)])

    assert counts(queue) == {
        "captured": 8, "delivered": 1, "dead": 1, "before_send": 1, "no_identity": 2, "pending": 3,
    }  # fmt: skip
    assert labels(queue.dead_letters()) == ["c"]
    assert queue.pending
    assert d.record.label == "d"


def test_each_lane_has_a_queue_of_its_own(make: MakeSpool) -> None:
    spool = make()
    entry = event("a")
    spool.enqueue([LaneBatch(LANE, [entry]), LaneBatch("other", [entry], [DropReason.NO_SESSION])])

    spool.lane(LANE).ack(claim(spool.lane(LANE), 1))

    assert counts(spool.lane(LANE)) == {"captured": 1, "delivered": 1}
    assert counts(spool.lane("other")) == {"captured": 2, "pending": 1, "no_session": 1}
    assert labels(claim(spool.lane("other"), 1)) == ["a"]
    assert spool.lane(LANE) is spool.lane(LANE)


def test_claimed_records_equal_the_enqueued_ones(make: MakeSpool) -> None:
    spool = make()
    entries = [event("seen", size=10, key="order:1"), event("b")]
    enter(spool, entries)

    claimed = claim(spool.lane(LANE), 2)

    assert [replace(entry, handle=0, memory=0) for entry in claimed] == [replace(entry, memory=0) for entry in entries]


def test_goals_are_claimed_before_events_and_in_fifo_order(make: MakeSpool) -> None:
    spool = make()
    enter(spool, [event("a"), goal("g"), event("b"), goal("h")])
    enter(spool, [goal("i")])

    assert labels(claim(spool.lane(LANE), 5)) == ["g", "h", "i", "a", "b"]


def test_a_claim_is_bounded_in_size_but_has_at_least_one_record(make: MakeSpool) -> None:
    spool = make()
    queue = spool.lane(LANE)
    enter(spool, [event("a", size=500), event("b", size=500), event("c", size=500)])

    assert labels(queue.claim(10, 2_000)) == ["a", "b"]
    assert labels(queue.claim(10, 1)) == ["c"]
    assert list(queue.claim(10, 1)) == []


def test_the_oldest_dead_letters_are_dropped_and_counted(make: MakeSpool) -> None:
    spool = make(dead_letters=2)
    queue = spool.lane(LANE)
    enter(spool, [event(name) for name in "abcd"])

    queue.dead_letter([letter(entry) for entry in claim(queue, 4)])

    assert labels(queue.dead_letters()) == ["c", "d"]
    assert counts(queue) == {"captured": 4, "dead": 2, "dead_letters_full": 2}


def test_a_dead_letter_keeps_its_reason(make: MakeSpool) -> None:
    spool = make()
    queue = spool.lane(LANE)
    enter(spool, [goal("g")])
    [entry] = claim(queue, 1)

    queue.dead_letter([letter(entry)])

    [found] = queue.dead_letters()
    assert found == replace(letter(entry), first_attempt=found.first_attempt, last_attempt=found.last_attempt)


def test_the_in_flight_flag_can_be_set_cleared_and_set_again(make: MakeSpool) -> None:
    spool = make()
    queue = spool.lane(LANE)
    enter(spool, [goal("g")])
    claimed = claim(queue, 1)

    assert queue.mark_in_flight(claimed, durably=True) == claimed
    queue.clear_in_flight(claimed, durably=True)
    assert queue.mark_in_flight(claimed, durably=True) == claimed
    queue.ack(claimed)

    assert counts(queue) == {"captured": 1, "delivered": 1}


def test_the_depth_counts_ready_records(make: MakeSpool) -> None:
    spool = make()
    queue = spool.lane(LANE)
    assert queue.depth() == (0, 0, None)

    enter(spool, [event("a"), event("b")])

    number, size, since = queue.depth()
    assert number == 2
    assert size > 0
    assert since is not None
    claim(queue, 2)
    assert list(queue.claim(1, 1)) == []
    assert queue.depth() == (0, 0, None)


def test_each_reason_to_drop_a_record_has_a_counter_of_its_name(make: MakeSpool) -> None:
    spool = make()
    expected: dict[str, int] = {}
    for captured, reason in enumerate(DropReason, 1):
        enter(spool, [], [reason])

        expected[reason.value] = 1
        assert counts(spool.lane(LANE)) == {"captured": captured, **expected}


# --- keys -----------------------------------------------------------------------------------------


def test_a_second_record_with_the_same_kind_name_and_key_is_a_duplicate(make: MakeSpool) -> None:
    spool = make()
    enter(spool, [event("paid", key="order:1"), event("paid", key="order:1")])
    enter(spool, [event("paid", key="order:1")])
    enter(spool, [event("paid", key="order:1")], lane="other")

    assert counts(spool.lane(LANE)) == {"captured": 3, "pending": 1, "duplicate": 2}
    assert counts(spool.lane("other")) == {"captured": 1, "pending": 1}


def test_a_record_with_another_kind_name_key_or_direction_is_not_a_duplicate(make: MakeSpool) -> None:
    spool = make()
    up = goal("paid", key="order:1")
    down = replace(up, record=replace(up.record, direction="decrement"))

    enter(spool, [event("paid", key="order:1"), event("sent", key="order:1"), event("paid", key="order:2"), up, down])

    assert counts(spool.lane(LANE)) == {"captured": 5, "pending": 5}


@pytest.mark.parametrize(
    "make", ["memory", "sqlite", "flaky", *DATABASES, *OF_SQLALCHEMY], indirect=True
)  # in Redis the server's clock counts
def test_a_key_is_accepted_again_after_its_window(make: MakeSpool) -> None:
    spool = make(dedupe_window=60)
    enter(spool, [event("paid", key="k", since=1000.0), event("paid", key="k", since=1059.0)])
    assert counts(spool.lane(LANE))["duplicate"] == 1

    enter(spool, [event("paid", key="k", since=1060.0)])

    assert counts(spool.lane(LANE)) == {"captured": 3, "pending": 2, "duplicate": 1}


def test_a_window_of_zero_seconds_has_no_duplicates(make: MakeSpool) -> None:
    spool = make(dedupe_window=0)
    enter(spool, [event("paid", key="k", since=1000.0), event("paid", key="k", since=1000.0)])

    assert counts(spool.lane(LANE)) == {"captured": 2, "pending": 2}


# --- threads --------------------------------------------------------------------------------------


def test_join_returns_when_the_last_record_is_resolved(make: MakeSpool) -> None:
    spool = make()
    queue = spool.lane(LANE)
    enter(spool, [event("a"), event("b")])
    ended: list[bool] = []
    waiting = threading.Thread(target=lambda: ended.append(queue.join(time.monotonic() + PATIENCE)))
    waiting.start()

    for _ in range(2):
        while not (claimed := claim(queue, 1)) and waiting.is_alive():
            pass  # the other thread uses the store
        queue.ack(claimed)

    waiting.join(PATIENCE)
    assert ended == [True]


def test_join_returns_at_its_deadline(make: MakeSpool) -> None:
    spool = make()
    queue = spool.lane(LANE)
    assert queue.join(time.monotonic() - 1)
    enter(spool, [event("a")])

    assert not queue.join(time.monotonic() - 1)


def test_records_of_concurrent_threads_are_all_counted(make: MakeSpool) -> None:
    spool = make(queue_records=10**6)
    start = threading.Barrier(8)

    def capture() -> None:
        start.wait(PATIENCE)
        for _ in range(50):
            enter(spool, [event("a"), event("b")], [DropReason.CONSENT])

    threads = [threading.Thread(target=capture) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert counts(spool.lane(LANE)) == {"captured": 8 * 50 * 3, "pending": 8 * 50 * 2, "consent": 8 * 50}


def test_the_status_of_a_record_is_where_it_is(make: MakeSpool) -> None:
    spool = make()
    queue = spool.lane(LANE)
    waiting, dead, sent = event("waiting"), goal("dead"), goal("sent")
    enter(spool, [waiting, dead, sent])
    claimed = {entry.record.label: entry for entry in claim(queue, 2)}
    queue.dead_letter([letter(claimed["dead"], "unknown")])
    queue.ack([claimed["sent"]])

    assert spool.status(LANE, waiting.record.random) == RecordStatus(state="pending")
    assert spool.status(LANE, dead.record.random) == RecordStatus(
        state="dead", reason="unknown", message="no such goal"
    )
    assert spool.status(LANE, sent.record.random) == RecordStatus(state="not_found")
    assert spool.status("other", waiting.record.random) == RecordStatus(state="not_found")


def test_erasing_a_user_drops_their_records_and_dead_letters_and_no_others(make: MakeSpool) -> None:
    spool = make()
    queue = spool.lane(LANE)
    entries = {name: replace(event(name), context=USERS[name[0]]) for name in ("a1", "b1", "a2", "b2", "a3", "b3")}
    enter(spool, entries.values())
    queue.dead_letter([letter(entry) for entry in claim(queue, 2)])
    in_flight = claim(queue, 1)
    enter(spool, [replace(goal("ab"), context=USERS["ab"])])

    assert spool.erase(LANE, "a") == 2

    assert counts(queue) == {"captured": 7, "dead": 1, "erased": 2, "pending": 4}
    assert labels(queue.dead_letters()) == ["b1"]
    assert labels(in_flight) == ["a2"]  # it may have arrived already
    assert sorted(labels(claim(queue, 9))) == ["ab", "b2", "b3"]
    assert spool.erase(LANE, "a") == 0


def test_a_user_named_by_the_call_is_erased_instead_of_the_requests(make: MakeSpool) -> None:
    spool = make()
    queue = spool.lane(LANE)
    entry = event("renamed")
    enter(spool, [replace(entry, record=replace(entry.record, user_id="b"), context=USERS["a"])])

    assert spool.erase(LANE, "a") == 0
    assert spool.erase(LANE, "b") == 1
    assert counts(queue) == {"captured": 1, "erased": 1}
    assert queue.depth() == (0, 0, None) or queue.claim(1, 10**9) == []
