from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from sessionsight.capture.records import Goal, QueuedRecord
from sessionsight.delivery.queue.priority import PriorityDeque
from sessionsight.delivery.stores.base import record_size
from sessionsight.request.context import Page, TrackingContext
from tests.core.delivery.kit import USER, event, goal, labels, queued


def queue(records: int = 100, size: int = 10**9) -> PriorityDeque:
    return PriorityDeque(max_records=records, max_bytes=size)


def test_records_are_claimed_in_fifo_order_with_goals_before_events() -> None:
    full = queue()
    full.put([event("a"), goal("G"), event("b"), goal("H")])

    assert labels(full.claim(100, 10**9)) == ["G", "H", "a", "b"]


def test_a_claim_is_bounded_in_records_and_bytes() -> None:
    full = queue()
    full.put([event(name, size=1000) for name in "abcdef"])
    each = record_size(event("a", size=1000))

    assert labels(full.claim(2, 10**9)) == ["a", "b"]
    assert labels(full.claim(100, 2 * each)) == ["c", "d"]
    assert full.ready == 2
    assert full.pending == 6


def test_a_record_larger_than_the_bound_is_claimed_alone() -> None:
    full = queue()
    full.put([event("large", size=10_000), event("b")])

    assert labels(full.claim(100, 500)) == ["large"]
    assert labels(full.claim(100, 500)) == ["b"]
    assert full.claim(100, 500) == []


def test_a_full_queue_evicts_the_oldest_events_before_goals() -> None:
    full = queue(records=4)

    assert full.put([event("a"), goal("G"), event("b"), goal("H")]) == []
    assert labels(full.put([event("c")])) == ["a"]
    assert labels(full.put([goal("I"), goal("J")])) == ["b", "c"]
    assert labels(full.put([goal("K")])) == ["G"]
    assert labels(full.put([event("d")])) == ["d"]
    assert labels(full.claim(100, 10**9)) == ["H", "I", "J", "K"]


def test_a_queue_is_also_bounded_by_memory() -> None:
    full = queue()
    full.put([event(name, size=1000) for name in "abc"])
    full = queue(size=full.memory)
    full.put([event(name, size=1000) for name in "abc"])

    assert labels(full.put([event("d", size=1000)])) == ["a"]
    assert labels(full.put([event("too large", size=10_000)])) == ["b", "c", "d", "too large"]
    assert full.pending == full.memory == 0


def visited(number: int, *, text: int = 0) -> QueuedRecord:
    """Return a record with its own context."""
    page = Page(url=f"https://shop.example.com/{number}/{'x' * text}", user_agent="Mozilla/5.0 " + "y" * text)
    record = event(str(number)).record
    return queued(record, 0.0, TrackingContext(user_id=f"user_{number}", page=page))


def test_the_text_of_a_context_counts_until_its_record_is_claimed() -> None:
    short, long = queue(), queue()
    short.put([visited(1)])
    long.put([visited(1, text=50_000)])

    assert long.memory - short.memory == pytest.approx(100_000, abs=20)

    long.done(long.claim(1, 10**9))
    assert long.memory == 0


def test_the_estimated_memory_is_close_to_what_python_allocates() -> None:
    full = queue(records=10**6)
    full.put([visited(number) for number in range(100)])  # allocated only once
    tracemalloc.start()
    try:
        before, counted = tracemalloc.get_traced_memory()[0], full.memory
        for number in range(2_000):
            full.put([visited(number, text=number % 100)])
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    assert 0.8 * grown < full.memory - counted < 2 * grown


def test_a_context_with_arbitrary_values_counts() -> None:
    odd = queued(event("a").record, context=replace(USER, user_id=object()))
    assert odd.memory > event("a").memory
    full = queue()
    full.put([odd])

    assert labels(full.claim(1, 10**9)) == ["a"]
    assert full.memory == 0


def test_claimed_records_count_towards_the_bound_but_are_never_evicted() -> None:
    full = queue(records=2)
    full.put([event("a"), event("b")])
    claimed = full.claim(2, 10**9)

    assert labels(full.put([event("c")])) == ["c"]

    full.done(claimed)
    assert full.put([event("d"), event("e")]) == []
    assert full.pending == 2


def test_selected_records_are_removed_and_the_others_and_claimed_ones_stay() -> None:
    full = queue()
    full.put([event("a"), goal("G"), event("b"), event("c")])
    full.claim(1, 10**9)

    assert labels(full.remove(lambda entry: entry.record.label in "ab")) == ["a", "b"]
    assert full.pending == 2
    assert labels(full.claim(9, 10**9)) == ["c"]
    assert full.ready == full.ready_bytes == full.memory == 0


class Observed(PriorityDeque):
    """Notes what a thread without the lock may see in the middle of a change."""

    seen: list[int]

    def _count(self, entries: Sequence[QueuedRecord], sign: int) -> None:
        self.seen.append(self.pending)
        super()._count(entries, sign)


def test_records_that_are_claimed_or_requeued_are_pending_at_every_moment() -> None:
    observed = Observed(max_records=9, max_bytes=10**9)
    observed.seen = []
    observed.put([event("a"), event("b")])

    observed.requeue(observed.claim(2, 10**9))

    assert observed.seen == [2, 2, 2]


class QueueMachine(RuleBasedStateMachine):
    """Compares a queue with a list."""

    @initialize(records=st.integers(1, 8), events_worth=st.integers(1, 8))
    def begin(self, records: int, events_worth: int) -> None:
        self.max_records, self.max_bytes = records, events_worth * 600
        self.queue = queue(records, self.max_bytes)
        self.model: list[QueuedRecord] = []
        self.claimed: list[QueuedRecord] = []
        self.number = 0

    @rule(kinds=st.lists(st.tuples(st.booleans(), st.integers(0, 300)), max_size=6))
    def put(self, kinds: list[tuple[bool, int]]) -> None:
        entries: list[QueuedRecord] = []
        for is_goal, size in kinds:
            self.number += 1
            entries.append(goal(str(self.number)) if is_goal else event(str(self.number), size=size))
        self.model += entries
        lost = []
        while self.model and (
            len(self.model) + len(self.claimed) > self.max_records
            or sum(entry.memory for entry in self.model) > self.max_bytes
        ):
            events = [entry for entry in self.model if not isinstance(entry.record, Goal)]
            lost.append((events or self.model)[0])
            self.model = [entry for entry in self.model if entry is not lost[-1]]
        assert labels(self.queue.put(entries)) == labels(lost)

    @rule(number=st.integers(1, 5), size=st.integers(1, 2000))
    def claim(self, number: int, size: int) -> None:
        claimed = self.queue.claim(number, size)
        expected: list[QueuedRecord] = []
        for entry in sorted(self.model, key=lambda entry: not isinstance(entry.record, Goal)):
            if len(expected) == number or (expected and sum(map(record_size, [*expected, entry])) > size):
                break
            expected.append(entry)
        assert labels(claimed) == labels(expected)
        self.model = [entry for entry in self.model if entry not in expected]
        self.claimed += claimed

    @rule(number=st.integers(0, 5))
    def done(self, number: int) -> None:
        done, self.claimed = self.claimed[:number], self.claimed[number:]
        self.queue.done(done)

    @rule(number=st.integers(0, 5))
    def requeue(self, number: int) -> None:
        again, self.claimed = self.claimed[:number], self.claimed[number:]
        self.queue.requeue(again)
        self.model = again + self.model

    @rule(rest=st.integers(1, 3))
    def remove(self, rest: int) -> None:
        removed = self.queue.remove(lambda entry: int(entry.record.label) % rest == 0)
        kept = [entry for entry in self.model if int(entry.record.label) % rest]
        assert sorted(labels(removed)) == sorted(labels([entry for entry in self.model if entry not in kept]))
        self.model = kept

    @invariant()
    def counts_are_right(self) -> None:
        assert self.queue.ready == len(self.model)
        assert self.queue.ready_bytes == sum(map(record_size, self.model))
        assert self.queue.memory == sum(entry.memory for entry in self.model)
        assert self.queue.pending == len(self.model) + len(self.claimed)


TestQueue = QueueMachine.TestCase
