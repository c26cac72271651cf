"""A durable spool whose store fails: records are accepted, none is lost or counted twice, no goal is repeated."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from sessionsight.capture.records import DropReason, QueuedRecord
from sessionsight.client import Client
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.durable_spool import DurableSpool
from sessionsight.delivery.stats import RecordStatus
from sessionsight.delivery.stores.base import LaneBatch, Outcome
from sessionsight.delivery.stores.errors import (
    AnswerLost,
    ForeignDatabase,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from sessionsight.delivery.stores.sqlite.store import SqliteStore
from sessionsight.destinations import Signal
from sessionsight.log import ThrottledLogger
from sessionsight.request.context import TrackingContext
from sessionsight.settings import Settings
from tests.core.delivery.kit import event, goal, labels
from tests.core.delivery.spools import (
    LANE,
    FlakySpool,
    claim,
    counts,
    enter,
    flaky_spool,
    letter,
    maintain,
    query,
    sound,
    sqlite_spool,
)
from tests.support.clock import FrozenClock
from tests.support.flaky_store import FlakyStore, as_store
from tests.support.server import PATIENCE, Server

SOON = 0.01


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@pytest.fixture
def spool(path: Path) -> Iterator[FlakySpool]:
    spool = flaky_spool(path)
    yield spool
    spool.lane(LANE).close()
    spool.close()


# --- a store that cannot be used ------------------------------------------------------------------


@pytest.mark.parametrize("error", [StoreUnavailable, StoreFull, StoreBusy, ForeignDatabase])
def test_after_a_failed_write_requests_do_not_try_for_a_second(spool: FlakySpool, error: type[StoreError]) -> None:
    with spool.flaky.failing("enqueue", error=error):
        enter(spool, [event("a")])
        enter(spool, [event("b")])
        assert spool.flaky.calls == ["enqueue"]
        spool.clock.advance(1.0)
        enter(spool, [event("c")])
        assert spool.flaky.calls == ["enqueue"] * 2
    spool.clock.advance(1.0)
    enter(spool, [event("d")])

    assert counts(spool.lane(LANE)) == {"captured": 4, "pending": 4}
    assert spool.lane(LANE).fallback.pending == 3


def test_a_successful_write_ends_the_cool_down(spool: FlakySpool) -> None:
    with spool.flaky.failing("enqueue"):
        enter(spool, [event("a")])
    spool.maintain()

    enter(spool, [event("b")])

    assert spool.lane(LANE).fallback.pending == 0


def test_a_flush_reports_that_the_store_cannot_be_read(spool: FlakySpool) -> None:
    queue = spool.lane(LANE)
    with spool.flaky.failing():
        assert queue.pending == 1
        assert not queue.join(time.monotonic() + SOON)

    assert queue.pending == 0
    assert queue.join(time.monotonic() + PATIENCE)


def test_statistics_add_the_last_known_counts_and_those_in_memory(spool: FlakySpool) -> None:
    queue = spool.lane(LANE)
    enter(spool, [event(name) for name in "abc"])
    queue.ack(claim(queue, 1))
    before = counts(queue)
    with spool.flaky.failing():
        enter(spool, [event("d"), event("e", key="k")])
        stats = queue.snapshot("closed")
        assert counts(queue) == {"captured": 5, "delivered": 1, "pending": 4}
        assert stats.last_error is not None
        assert "the spool cannot be read: disk I/O error" in stats.last_error
        assert queue.dead_letters() == []

    assert before == {"captured": 3, "delivered": 1, "pending": 2}
    assert queue.snapshot("closed").last_error is None


def test_while_the_store_cannot_be_read_no_record_counts_as_another_processs(spool: FlakySpool) -> None:
    with spool.flaky.failing():
        assert {*spool.lane(LANE).owned_or_ready([1, 2])} == {1, 2}


def test_a_flush_does_not_wait_for_a_missing_folder(tmp_path: Path) -> None:
    with Server() as server:
        destination = Signal(api_key="key", endpoint=server.url)
        spool = f"sqlite:///{tmp_path / 'none' / 'spool.db'}"
        shop = Client(Settings(destinations=(destination,), spool=spool, trust_env=False))
        try:
            shop.analytics.capture("seen", user_id="user_1", key="k")
            assert shop.flush(PATIENCE)
            assert shop.stats().lanes["signal"].delivered == 1
        finally:
            assert shop.shutdown(PATIENCE)


def test_outcomes_are_written_once_the_store_can_be_used(spool: FlakySpool, path: Path) -> None:
    queue = spool.lane(LANE)
    enter(spool, [goal(name) for name in "abcd"])
    a, b, c, d = claim(queue, 4)
    assert queue.mark_in_flight([a, b, c], durably=True) == [a, b, c]
    with spool.flaky.failing():
        assert queue.mark_in_flight([d], durably=True) is None
        queue.ack([a])
        queue.dead_letter([letter(b)])
        queue.clear_in_flight([c], durably=True)

    maintain(spool)

    assert query(path, "SELECT in_flight FROM queue") == [(0,), (0,)]
    assert counts(queue) == {"captured": 4, "delivered": 1, "dead": 1, "pending": 2}


@pytest.mark.parametrize("unready", [StoreBusy, StoreUnavailable])
def test_what_waits_in_memory_moves_to_the_store(
    spool: FlakySpool, path: Path, unready: type[StoreError], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    queue = spool.lane(LANE)
    with spool.flaky.failing(error=unready):
        enter(spool, [event(name) for name in "abcd"], [DropReason.CONSENT])
        a, b, c = claim(queue, 3)
        queue.ack([a])
        queue.dead_letter([letter(b)])
        queue.drop([c], DropReason.BEFORE_SEND)
        maintain(spool)

    maintain(spool)

    assert counts(queue) == {
        "captured": 5, "delivered": 1, "dead": 1, "before_send": 1, "consent": 1, "pending": 1,
    }  # fmt: skip
    assert labels(queue.fallback.sendable.dead_letters()) == []
    assert labels(queue.dead_letters()) == ["b"]
    assert query(path, "SELECT number FROM counts WHERE counter = 'bypassed'") == [(3,)]
    assert "vendor: the spool can be written again; 3 records had to wait in memory" in caplog.text
    assert sound(path)


def test_records_in_memory_after_shutdown_are_lost_with_or_without_a_key(spool: FlakySpool) -> None:
    queue = spool.lane(LANE)
    with spool.flaky.failing():
        enter(spool, [event("a", key="k"), event("b")])
        assert queue.close() == 2


def test_a_dead_letter_whose_record_cannot_be_encoded_keeps_its_reason(
    spool: FlakySpool, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    queue = spool.lane(LANE)
    by_hand = QueuedRecord(event("a").record, TrackingContext(user_id=object()), time.time())  # type: ignore[arg-type]
    enter(spool, [by_hand, event("b"), event("c")])
    a, b, c = claim(queue, 3)
    queue.dead_letter([letter(a), letter(b)])
    queue.ack([c])

    maintain(spool)

    assert counts(queue) == {"captured": 3, "dead": 2, "delivered": 1}
    assert labels(queue.dead_letters()) == ["b"]
    [(reason, message), _] = query(path, "SELECT reason, message FROM sessionsight_dead_letter ORDER BY id")
    assert reason == "refused"
    assert message.startswith("no such goal; the record itself cannot be written (TypeError: ")
    assert "a record cannot be written" in caplog.text
    assert sound(path)


def test_a_record_that_cannot_be_encoded_is_not_deferred_and_delays_no_other(spool: FlakySpool) -> None:
    """Other records with a key are deferred until the store can be used again."""
    by_hand = QueuedRecord(event("a", key="order:1").record, TrackingContext(user_id=object()))  # type: ignore[arg-type]

    enter(spool, [by_hand])
    enter(spool, [event("b")])
    maintain(spool)

    assert spool.flaky.calls.count("enqueue") == 1
    assert sorted(labels(claim(spool.lane(LANE), 2))) == ["a", "b"]


def test_an_outcome_that_cannot_be_stored_does_not_prevent_the_others(
    spool: FlakySpool, caplog: pytest.LogCaptureFixture
) -> None:
    queue = spool.lane(LANE)
    enter(spool, [event("a"), event("b"), event("c")])
    a, b, c = claim(queue, 3)
    with spool.flaky.failing():
        queue.ack([a])
        queue.dead_letter([replace(letter(b), reason="\ud800")])
        queue.ack([c])

    maintain(spool)

    assert counts(queue) == {"captured": 3, "delivered": 2, "pending": 1}
    assert "vendor: an outcome cannot be written, UnicodeEncodeError" in caplog.text


# --- keys -----------------------------------------------------------------------------------------


def test_keyed_records_wait_until_the_store_can_be_used(spool: FlakySpool) -> None:
    queue = spool.lane(LANE)
    enter(spool, [event("a", key="k")])
    queue.ack(claim(queue, 1))
    assert counts(queue) == {"captured": 1, "delivered": 1}
    with spool.flaky.failing():
        enter(spool, [event("a", key="k"), event("b", key="l"), event("c")])
        maintain(spool)
        sent = queue.claim(10, 10**9)
        assert not queue.claim(10, 10**9)
        queue.ack(sent)
        assert counts(queue) == {"captured": 4, "delivered": 2, "pending": 2}
    maintain(spool)

    assert labels(sent) == ["c"]
    assert labels(claim(queue, 1)) == ["b"]
    assert counts(queue) == {"captured": 4, "delivered": 2, "pending": 1, "duplicate": 1}


def test_deferred_records_are_sent_at_shutdown(spool: FlakySpool) -> None:
    queue = spool.lane(LANE)
    enter(spool, [event("a", key="k")])
    queue.ack(claim(queue, 1))
    with spool.flaky.failing():
        enter(spool, [event("b", key="l"), event("b", key="l")])
        maintain(spool)
        queue.begin_shutdown()
        queue.maintain()
        sent = queue.claim(10, 10**9)
        enter(spool, [event("c", key="m")])  # late
        sent = [*sent, *queue.claim(10, 10**9)]
        queue.ack(sent)

    assert labels(sent) == ["b", "c"]
    assert counts(queue) == {"captured": 4, "delivered": 3, "duplicate": 1}


def test_deferred_records_are_stored_at_shutdown_if_the_store_can_be_used(spool: FlakySpool) -> None:
    queue = spool.lane(LANE)
    with spool.flaky.failing():
        enter(spool, [event("a", key="k")])

    queue.begin_shutdown()
    assert queue.close() == 0
    assert counts(queue) == {"captured": 1, "pending": 1}


def test_a_key_that_was_moved_to_the_store_is_forgotten_in_memory(spool: FlakySpool, path: Path) -> None:
    """The store may have evicted its record, and with it the key."""
    queue = spool.lane(LANE)
    with spool.flaky.failing():
        enter(spool, [event("a", key="k")])
    maintain(spool)
    queue.drop(claim(queue, 1), DropReason.QUEUE_FULL)
    query(path, "DELETE FROM keys")
    with spool.flaky.failing():
        enter(spool, [event("a", key="k")])

        assert queue.pending == 2  # one of them for the store that cannot be read


def test_a_closed_lane_is_not_maintained_with_the_others(spool: FlakySpool) -> None:
    with spool.flaky.failing("enqueue"):
        enter(spool, [event("a")])
    spool.lane(LANE).close()
    spool.flaky.calls.clear()

    spool.maintain()

    assert "enqueue" not in spool.flaky.calls
    assert spool.lane(LANE).maintain() == math.inf


def test_each_accepted_record_is_found_by_its_handle(spool: FlakySpool) -> None:
    one, other, again = goal("g"), event("paid", key="k"), event("paid", key="k")
    handles = spool.enqueue([LaneBatch(LANE, [one, other, again]), LaneBatch("second", [one])])

    assert handles is not None
    assert {*handles} == {(LANE, one.record.random), (LANE, other.record.random), ("second", one.record.random)}
    assert len(handles) == 3
    assert {*spool.lane(LANE).owned_or_ready([handles[LANE, one.record.random], 7])} == {
        handles[LANE, one.record.random]
    }


# --- lost answers ---------------------------------------------------------------------------------


def test_a_write_whose_answer_is_lost_is_repeated_without_doubling(spool: FlakySpool) -> None:
    queue = spool.lane(LANE)
    spool.flaky.lose_answer("enqueue")

    batch = LaneBatch(LANE, [goal("g"), event("paid", key="k")], [DropReason.CONSENT])
    assert spool.enqueue([batch]) is None  # a request that waits for them goes on waiting
    assert spool._unconfirmed
    assert queue.fallback.pending == 0  # it may be in the store, so it must not be sent from memory
    maintain(spool)

    assert counts(queue) == {"captured": 3, "pending": 2, "consent": 1}
    assert labels(claim(queue, 9)) == ["g", "paid"]
    assert queue.depth()[0] == 0


def test_a_write_that_may_not_have_arrived_is_pending_until_it_does(spool: FlakySpool) -> None:
    queue = spool.lane(LANE)
    entry = goal("g")
    spool.flaky.lose_answer("enqueue")
    enter(spool, [entry])
    with spool.flaky.failing():
        assert counts(queue) == {"captured": 1, "pending": 1}
        assert queue.pending == 2  # one of them for the store that cannot be read
        assert spool.status(LANE, entry.record.random) == RecordStatus(state="pending")
        with pytest.raises(StoreUnavailable):
            spool.erase(LANE, "user_1")
        maintain(spool)
        assert not queue.claim(9, 10**9)
        assert queue.close() == 1


def test_a_flush_waits_for_a_write_that_may_not_have_arrived(spool: FlakySpool) -> None:
    queue = spool.lane(LANE)
    with spool.flaky.failing("enqueue", error=AnswerLost):
        enter(spool, [goal("g")])

    assert not queue.join(time.monotonic() + SOON)
    maintain(spool)
    assert not queue.join(time.monotonic() + SOON)
    queue.ack(claim(queue, 1))
    assert queue.join(time.monotonic() + PATIENCE)


def test_records_that_move_to_the_store_are_not_doubled_by_a_lost_answer(spool: FlakySpool) -> None:
    queue = spool.lane(LANE)
    with spool.flaky.failing("enqueue"):
        enter(spool, [event(name) for name in "abc"])
    queue.ack(queue.fallback.sendable.claim(1, 10**9))
    queue.dead_letter([letter(entry) for entry in queue.fallback.sendable.claim(1, 10**9)])
    for _ in range(3):  # the record, the counters, and the confirmation
        spool.flaky.lose_answer("enqueue")
        maintain(spool)
    maintain(spool)

    assert not spool._unconfirmed
    assert counts(queue) == {"captured": 3, "delivered": 1, "dead": 1, "pending": 1}
    assert labels(claim(queue, 9)) == ["c"]
    assert labels(queue.dead_letters()) == ["b"]


def test_records_whose_claim_was_not_answered_are_sent(spool: FlakySpool) -> None:
    queue = spool.lane(LANE)
    enter(spool, [goal(name) for name in "abcdef"])
    held, sent = claim(queue, 1), claim(queue, 1)
    assert queue.mark_in_flight(sent, durably=True) == sent
    queue.ack(queue._claims.pop_prefetched(4))
    enter(spool, [goal(name) for name in "ghi"])
    spool.flaky.lose_answer("claim")

    assert not queue.claim(9, 10**9)
    found = claim(queue, 9)

    assert labels(found) == ["g", "h", "i"]
    assert queue.mark_in_flight([*held, *found], durably=True) == [*held, *found]
    queue.ack([*held, *sent, *found])
    assert counts(queue) == {"captured": 9, "delivered": 9}


@pytest.mark.parametrize("outcome", ["ack", "drop", "dead_letter"])
def test_an_outcome_whose_answer_is_lost_is_counted_once(spool: FlakySpool, outcome: str) -> None:
    queue = spool.lane(LANE)
    enter(spool, [goal("a"), goal("b")])
    claimed = claim(queue, 1)
    spool.flaky.lose_answer("settle")
    report: dict[str, Callable[[], Any]] = {
        "ack": lambda: queue.ack(claimed),
        "drop": lambda: queue.drop(claimed, DropReason.BEFORE_SEND),
        "dead_letter": lambda: queue.dead_letter([letter(entry) for entry in claimed]),
    }

    report[outcome]()
    maintain(spool)

    name = {"ack": "delivered", "drop": "before_send", "dead_letter": "dead"}[outcome]
    assert counts(queue) == {"captured": 2, name: 1, "pending": 1}


def test_a_record_whose_flag_may_be_set_is_sent_once_that_is_known(spool: FlakySpool) -> None:
    queue = spool.lane(LANE)
    enter(spool, [goal("g")])
    claimed = claim(queue, 1)
    spool.flaky.lose_answer("mark_in_flight")

    assert queue.mark_in_flight(claimed, durably=True) is None
    assert queue.mark_in_flight(claimed, durably=True) == claimed


# --- many lanes -----------------------------------------------------------------------------------


def test_all_lanes_are_maintained_by_one_call_of_the_store(path: Path) -> None:
    lanes = [f"lane {number}" for number in range(300)]
    spool, other = flaky_spool(path, *lanes), flaky_spool(path, *lanes)
    enter(other, [event("a")], lane="lane 7")
    spool.flaky.calls.clear()

    due = {spool.lane(lane).maintain() for lane in lanes}

    assert sorted(spool.flaky.calls) == ["check", "maintain", "ready", "recover"]
    assert due == {spool._next_maintenance}
    assert [lane for lane in lanes if spool.lane(lane).depth()[0]] == ["lane 7"]
    spool.close()
    other.close()


def test_a_lane_comes_again_soon_while_another_thread_maintains_all(spool: FlakySpool) -> None:
    for is_due in (True, False):
        with spool._maintaining:
            assert spool.lane(LANE).maintain() <= spool.clock.monotonic() + 0.1
            assert not spool.maintain()
        if is_due:
            spool.lane(LANE).maintain()

    assert spool.lane(LANE).maintain() > spool.clock.monotonic() + 1.0


@pytest.mark.parametrize("method", ["settle", "enqueue"])
def test_while_the_store_is_busy_one_lane_waits_for_it_and_at_shutdown_each(path: Path, method: str) -> None:
    lanes = ["one", "two", "three"]
    spool = flaky_spool(path, *lanes)
    for lane in lanes:
        enter(spool, [event("a")], lane=lane)
    claimed = {lane: claim(spool.lane(lane), 1) for lane in lanes}
    with spool.flaky.failing(method, error=StoreBusy):
        for lane in lanes:
            spool.lane(lane).ack(claimed[lane])
            enter(spool, [event("b", key="k")], lane=lane)
        spool.flaky.calls.clear()
        spool.maintain()
        assert spool.flaky.calls.count(method) == 1
        for lane in lanes:
            spool.lane(lane).begin_shutdown()
        spool.flaky.calls.clear()
        spool.maintain()
        assert spool.flaky.calls.count(method) == 3
    spool.close()


# --- the store's part -----------------------------------------------------------------------------


def test_claims_that_are_in_flight_or_settled_are_not_found_again(spool: FlakySpool) -> None:
    enter(spool, [goal(name) for name in "abc"])
    [a, b, c] = spool.store.claim(LANE, max_records=9, max_bytes=10**9, timeout=PATIENCE).claims
    spool.store.mark_in_flight(LANE, [a.handle], timeout=PATIENCE)
    spool.store.settle(LANE, [Outcome(handles=[b.handle], counter="delivered")], timeout=PATIENCE)

    assert [found.handle for found in spool.store.claimed(LANE).claims] == [c.handle]


# --- a store that cannot be used for long ---------------------------------------------------------


@pytest.fixture
def frozen(path: Path) -> Iterator[tuple[DurableSpool, FlakyStore, FrozenClock]]:
    """A spool whose clock stands still, its store and the clock."""
    clock, options, logger = FrozenClock(), DeliveryOptions(), ThrottledLogger()
    flaky = FlakyStore(SqliteStore(str(path), options, logger, clock=clock))
    spool = DurableSpool(as_store(flaky), options, logger, clock=clock)
    yield spool, flaky, clock
    spool.lane(LANE).close()
    spool.close()


def test_an_outage_is_logged_once_and_the_delays_of_attempts_increase(
    frozen: tuple[DurableSpool, FlakyStore, FrozenClock], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    spool, flaky, clock = frozen
    queue = spool.lane(LANE)
    delays = []
    with flaky.failing():
        for _ in range(6):
            due = queue.maintain()
            queue.claim(1, 1 << 20)  # brings the next attempt no nearer
            delays.append(due - clock.now)
            clock.now = due + 60.0  # the log tells nothing twice a minute anyway
    assert delays == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert spool.outage == 6

    assert queue.maintain() - clock.now == 2.0
    assert spool.outage == 0
    assert [record.getMessage() for record in caplog.records] == [
        f"spool {spool.store.name}: disk I/O error; records are kept in memory until it can be used",
        f"spool {spool.store.name} can be used again",
    ]


def test_a_request_that_writes_ends_an_outage(frozen: tuple[DurableSpool, FlakyStore, FrozenClock]) -> None:
    spool, flaky, clock = frozen
    queue = spool.lane(LANE)
    with flaky.failing():
        enter(spool, [event("first")])
        for _ in range(3):
            clock.now = queue.maintain()
        enter(spool, [event("second")])
        assert queue.fallback.pending == 2
    clock.now += 1.0
    enter(spool, [event("third")])
    assert spool.outage == 0
    queue.maintain()
    assert queue.fallback.pending == 0


def test_a_spool_polls_often_while_other_processes_write(
    path: Path, frozen: tuple[DurableSpool, FlakyStore, FrozenClock]
) -> None:
    spool, flaky, clock = frozen
    spool.polls = True
    queue = spool.lane(LANE)
    found = []
    for turn in range(7):
        due = queue.maintain()
        found.append(round(due - clock.now, 2))
        clock.now = due
        if turn == 4:
            other = sqlite_spool(path)
            enter(other, [event("from another process")])
            other.close()
    assert found == [0.1, 0.2, 0.4, 0.8, 0.5, 0.05, 0.05]
    flaky.calls.clear()
    assert labels(queue.claim(1, 1 << 20)) == ["from another process"]


@pytest.mark.parametrize("polls", [True, False])
def test_an_idle_spool_uses_its_store_every_five_seconds(
    path: Path, frozen: tuple[DurableSpool, FlakyStore, FrozenClock], *, polls: bool
) -> None:
    spool, flaky, clock = frozen
    spool.polls = polls
    queue = spool.lane(LANE)

    def turns(number: int) -> list[float]:
        waits = []
        for _ in range(number):
            waits.append(round(queue.maintain() - clock.now, 2))
            clock.now += waits[-1]
        return waits

    turns(20)
    assert spool.idle
    flaky.calls.clear()
    assert turns(3) == [5.0, 5.0, 5.0]
    assert sorted(flaky.calls) == sorted(3 * ["check", "maintain", "recover", "ready"])

    enter(spool, [event("a")])  # which is ready at once
    assert (queue.depth()[0], spool.idle) == (1, False)
    queue.ack(claim(queue, 1))
    turns(20)
    other = sqlite_spool(path)
    enter(other, [event("from another process")])
    other.close()

    assert turns(1) == [0.05 if polls else 2.0]
    assert queue.depth()[0] == 1
