from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sessionsight.capture.records import DropReason, QueuedRecord
from sessionsight.delivery.queue.memory import MemoryQueue
from sessionsight.delivery.queue.priority import PriorityDeque
from sessionsight.delivery.stores.base import DeadLetter
from tests.core.delivery.kit import event, goal, labels, make_queue, tally
from tests.support.server import PATIENCE


def letter(entry: QueuedRecord, reason: str = "refused") -> DeadLetter:
    return DeadLetter(
        destination="vendor",
        entry=entry,
        reason=reason,
        message="",
        status=None,
        attempts=1,
        first_attempt=None,
        last_attempt=None,
    )


def counts(queue: MemoryQueue) -> dict[str, int]:
    return tally(queue.snapshot("closed"))


def test_evicted_records_are_counted_and_reported_once() -> None:
    queue = make_queue(queue_records=2)
    queue.enqueue([event(name) for name in "abc"])
    queue.enqueue([event("d")])

    assert counts(queue) == {"captured": 4, "pending": 2, "queue_full": 2}
    assert queue.pop_evicted_count() == 2
    assert queue.pop_evicted_count() == 0


def test_closing_counts_all_pending_records_as_lost_even_claimed_ones() -> None:
    queue = make_queue()
    queue.enqueue([event(name) for name in "abc"])
    under_way = queue.claim(1, 10**9)

    assert queue.close() == 3
    assert queue.close() == 0
    queue.ack(under_way)  # the response is too late
    queue.dead_letter([letter(entry) for entry in under_way])
    queue.drop(under_way, DropReason.BEFORE_SEND)
    queue.enqueue([event("d")], [DropReason.CONSENT])

    assert counts(queue) == {"captured": 5, "shutdown": 4, "consent": 1}
    assert queue.dead_letters() == []


def test_the_depth_has_the_time_of_the_first_ready_record() -> None:
    queue = make_queue()
    assert queue.depth() == (0, 0, None)

    before = time.monotonic()
    queue.enqueue([event("a")])
    number, size, since = queue.depth()
    queue.enqueue([event("b")])

    assert number == 1
    assert size > 0
    assert since is not None
    assert before <= since <= time.monotonic()
    assert queue.depth()[2] == since
    queue.claim(2, 10**9)
    assert queue.depth() == (0, 0, None)


# --- keys -----------------------------------------------------------------------------------------


def test_only_the_newest_keys_are_remembered() -> None:
    queue = make_queue(dedupe_keys=2)
    queue.enqueue([event("paid", key=key) for key in "abc"])

    queue.enqueue([event("paid", key="c"), event("paid", key="b")])
    assert counts(queue)["duplicate"] == 2

    queue.enqueue([event("paid", key="a")])
    assert counts(queue) == {"captured": 6, "pending": 4, "duplicate": 2}


def test_the_key_of_an_evicted_record_is_accepted_again() -> None:
    queue = make_queue(queue_records=1)
    queue.enqueue([event("paid", key="k")])
    queue.enqueue([goal("G")])
    assert counts(queue) == {"captured": 2, "pending": 1, "queue_full": 1}
    queue.ack(queue.claim(1, 10**9))

    queue.enqueue([event("paid", key="k")])

    assert labels(queue.claim(1, 10**9)) == ["paid"]


# --- threads --------------------------------------------------------------------------------------


def test_join_returns_when_the_queue_is_closed() -> None:
    queue = make_queue()
    queue.enqueue([event("a")])
    queue.claim(1, 10**9)
    ended: list[bool] = []
    waiting = threading.Thread(target=lambda: ended.append(queue.join(time.monotonic() + PATIENCE)))
    waiting.start()

    queue.close()

    waiting.join(PATIENCE)
    assert ended == [False]


# --- as a fallback --------------------------------------------------------------------------------


def test_claimed_entries_can_be_requeued_or_moved_to_another_queue() -> None:
    queue = make_queue()
    queue.enqueue([event("a"), goal("g"), event("b")])

    queue.requeue(queue.claim(2, 10**9))
    assert queue.depth()[0] == 3
    assert queue.depth()[2] is not None
    moved = queue.claim(2, 10**9)
    queue.remove_transferred(moved)

    assert labels(moved) == ["g", "a"]
    assert counts(queue) == {"captured": 1, "pending": 1}


def test_outcomes_can_be_exported_to_another_queue_and_imported_again() -> None:
    queue = make_queue()
    queue.enqueue([event(name) for name in "abc"], [DropReason.CONSENT])
    a, b, _ = queue.claim(3, 10**9)
    queue.ack([a])
    queue.dead_letter([letter(b)])
    before = counts(queue)

    settled = queue.export_counts()
    assert counts(queue) == {"captured": 1, "pending": 1}
    assert queue.dead_letters() == []
    queue.import_counts(*settled)

    assert counts(queue) == before == {"captured": 4, "delivered": 1, "dead": 1, "consent": 1, "pending": 1}
    assert labels(queue.dead_letters()) == ["b"]


class Interrupting(PriorityDeque):
    """Captures a record during `put` on the same thread, as a signal handler or a finalizer does."""

    queue: MemoryQueue
    interrupted = False

    def put(self, entries: Sequence[QueuedRecord]) -> list[QueuedRecord]:
        if not self.interrupted:
            self.interrupted = True
            self.queue.enqueue([event("from a signal handler")])
        return super().put(entries)


def test_a_capture_that_interrupts_another_on_the_same_thread_does_not_hang() -> None:
    entries = Interrupting(max_records=10, max_bytes=10**9)
    entries.queue = queue = make_queue()
    queue._entries = entries
    done: list[int] = []

    capturing = threading.Thread(target=lambda: done.append(queue.enqueue([event("a")])), daemon=True)
    capturing.start()
    capturing.join(PATIENCE)

    assert done == [2]
    assert counts(queue) == {"captured": 2, "pending": 2}


# --- any sequence ---------------------------------------------------------------------------------


class QueueMachine(RuleBasedStateMachine):
    """After any sequence of calls, each record is in exactly one counter."""

    @initialize(records=st.integers(1, 10), dead=st.integers(1, 3), keys=st.integers(1, 3))
    def begin(self, records: int, dead: int, keys: int) -> None:
        self.max_dead = dead
        self.queue = make_queue(queue_records=records, dead_letters=dead, dedupe_keys=keys)
        self.claimed: list[QueuedRecord] = []
        self.captured = 0
        self.closed = False

    @rule(
        entries=st.lists(
            st.builds(
                lambda make, name, key: make(name, key=key),
                st.sampled_from([event, goal]),
                st.sampled_from("ab"),
                st.sampled_from([None, "k1", "k2", "k3", "k4"]),
            ),
            max_size=6,
        ),
        dropped=st.lists(st.sampled_from([DropReason.CONSENT, DropReason.NO_IDENTITY]), max_size=2),
    )
    def enter(self, entries: list[QueuedRecord], dropped: list[DropReason]) -> None:
        waiting = self.queue.enqueue(entries, dropped)
        self.captured += len(entries) + len(dropped)
        assert waiting == self.queue.depth()[0]

    @rule(number=st.integers(1, 5))
    def claim(self, number: int) -> None:
        self.claimed += self.queue.claim(number, 10**9)

    def some(self, number: int) -> list[QueuedRecord]:
        some, self.claimed = self.claimed[:number], self.claimed[number:]
        return some

    @rule(number=st.integers(0, 4))
    def deliver(self, number: int) -> None:
        self.queue.ack(self.some(number))

    @rule(number=st.integers(0, 4))
    def drop(self, number: int) -> None:
        self.queue.drop(self.some(number), DropReason.BEFORE_SEND)

    @rule(number=st.integers(0, 4))
    def dead_letter(self, number: int) -> None:
        self.queue.dead_letter([letter(entry) for entry in self.some(number)])

    @rule(really=st.integers(0, 9))
    def close(self, really: int) -> None:
        if not really:
            pending = self.queue.pending
            assert self.queue.close() == pending
            self.closed = True

    @invariant()
    def the_counters_add_up(self) -> None:
        stats = self.queue.snapshot("closed")
        assert stats.balanced
        assert stats.captured == self.captured
        assert stats.dead == len(self.queue.dead_letters()) <= self.max_dead
        assert 0 not in stats.dropped.values()
        if self.closed:
            assert stats.pending == self.queue.pending == 0
        else:
            waiting, _, since = self.queue.depth()
            assert stats.pending == self.queue.pending == waiting + len(self.claimed)
            assert since is not None or not waiting


TestQueue = QueueMachine.TestCase


def test_no_other_process_can_claim_anything() -> None:
    assert [*make_queue().owned_or_ready([1, 2])] == [1, 2]
