from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sessionsight.capture.records import DropReason, QueuedRecord
from sessionsight.delivery.queue.base import DeadLetter
from sessionsight.delivery.queue.memory import MemoryBooks
from sessionsight.delivery.queue.priority import MemoryQueue
from tests.core.delivery.kit import event, goal, labels, make_books, tally
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


def counts(books: MemoryBooks) -> dict[str, int]:
    return tally(books.read("closed"))


def test_what_a_full_queue_costs_is_counted_and_told_once() -> None:
    books = make_books(queue_records=2)
    books.enter([event(name) for name in "abc"])
    books.enter([event("d")])

    assert counts(books) == {"captured": 4, "pending": 2, "queue_full": 2}
    assert books.take_evicted() == 2
    assert books.take_evicted() == 0


def test_closing_counts_what_is_left_as_lost_even_what_is_under_way() -> None:
    books = make_books()
    books.enter([event(name) for name in "abc"])
    under_way = books.claim(1, 10**9)

    assert books.close() == 3
    assert books.close() == 0
    books.delivered(under_way)  # the reply comes too late
    books.died([letter(entry) for entry in under_way])
    books.dropped(under_way, DropReason.BEFORE_SEND)
    books.enter([event("d")], [DropReason.CONSENT])

    assert counts(books) == {"captured": 5, "shutdown": 4, "consent": 1}
    assert books.dead_letters() == []


def test_it_is_known_since_when_something_waits() -> None:
    books = make_books()
    assert books.waiting() == (0, 0, None)

    before = time.monotonic()
    books.enter([event("a")])
    number, size, since = books.waiting()
    books.enter([event("b")])

    assert number == 1
    assert size > 0
    assert since is not None
    assert before <= since <= time.monotonic()
    assert books.waiting()[2] == since
    books.claim(2, 10**9)
    assert books.waiting() == (0, 0, None)


# --- keys -----------------------------------------------------------------------------------------


def test_as_many_keys_are_remembered_as_were_agreed_the_newest() -> None:
    books = make_books(dedupe_keys=2)
    books.enter([event("paid", key=key) for key in "abc"])

    books.enter([event("paid", key="c"), event("paid", key="b")])
    assert counts(books)["duplicate"] == 2

    books.enter([event("paid", key="a")])
    assert counts(books) == {"captured": 6, "pending": 4, "duplicate": 2}


def test_a_record_that_a_full_queue_has_lost_may_be_captured_again() -> None:
    books = make_books(queue_records=1)
    books.enter([event("paid", key="k")])
    books.enter([goal("G")])
    assert counts(books) == {"captured": 2, "pending": 1, "queue_full": 1}
    books.delivered(books.claim(1, 10**9))

    books.enter([event("paid", key="k")])

    assert labels(books.claim(1, 10**9)) == ["paid"]


# --- threads --------------------------------------------------------------------------------------


def test_waiting_ends_when_the_books_are_closed() -> None:
    books = make_books()
    books.enter([event("a")])
    books.claim(1, 10**9)
    ended: list[bool] = []
    waiting = threading.Thread(target=lambda: ended.append(books.wait_until_empty(time.monotonic() + PATIENCE)))
    waiting.start()

    books.close()

    waiting.join(PATIENCE)
    assert ended == [False]


# --- in the place of a file that cannot be used ---------------------------------------------------


def test_what_is_claimed_may_be_put_back_or_moved_to_other_books() -> None:
    books = make_books()
    books.enter([event("a"), goal("g"), event("b")])

    books.put_back(books.claim(2, 10**9))
    assert books.waiting()[0] == 3
    assert books.waiting()[2] is not None
    moved = books.claim(2, 10**9)
    books.forget(moved)

    assert labels(moved) == ["g", "a"]
    assert counts(books) == {"captured": 1, "pending": 1}


def test_what_is_settled_may_be_handed_over_to_other_books_and_taken_back() -> None:
    books = make_books()
    books.enter([event(name) for name in "abc"], [DropReason.CONSENT])
    a, b, _ = books.claim(3, 10**9)
    books.delivered([a])
    books.died([letter(b)])
    before = counts(books)

    settled = books.hand_over()
    assert counts(books) == {"captured": 1, "pending": 1}
    assert books.dead_letters() == []
    books.take_over(*settled)

    assert counts(books) == before == {"captured": 4, "delivered": 1, "dead": 1, "consent": 1, "pending": 1}
    assert labels(books.dead_letters()) == ["b"]


class Interrupting(MemoryQueue):
    """In the middle of `put`, the same thread captures something: a signal handler, or a finalizer."""

    books: MemoryBooks
    interrupted = False

    def put(self, entries: Sequence[QueuedRecord]) -> list[QueuedRecord]:
        if not self.interrupted:
            self.interrupted = True
            self.books.enter([event("from a signal handler")])
        return super().put(entries)


def test_a_capture_that_interrupts_another_on_the_same_thread_does_not_hang() -> None:
    queue = Interrupting(max_records=10, max_bytes=10**9)
    queue.books = books = make_books()
    books._queue = queue
    done: list[int] = []

    capturing = threading.Thread(target=lambda: done.append(books.enter([event("a")])), daemon=True)
    capturing.start()
    capturing.join(PATIENCE)

    assert done == [2]
    assert counts(books) == {"captured": 2, "pending": 2}


# --- any sequence ---------------------------------------------------------------------------------


class BooksMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order, each record is in exactly one place."""

    @initialize(records=st.integers(1, 10), dead=st.integers(1, 3), keys=st.integers(1, 3))
    def begin(self, records: int, dead: int, keys: int) -> None:
        self.max_dead = dead
        self.books = make_books(queue_records=records, dead_letters=dead, dedupe_keys=keys)
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
        waiting = self.books.enter(entries, dropped)
        self.captured += len(entries) + len(dropped)
        assert waiting == self.books.waiting()[0]

    @rule(number=st.integers(1, 5))
    def claim(self, number: int) -> None:
        self.claimed += self.books.claim(number, 10**9)

    def some(self, number: int) -> list[QueuedRecord]:
        some, self.claimed = self.claimed[:number], self.claimed[number:]
        return some

    @rule(number=st.integers(0, 4))
    def deliver(self, number: int) -> None:
        self.books.delivered(self.some(number))

    @rule(number=st.integers(0, 4))
    def drop(self, number: int) -> None:
        self.books.dropped(self.some(number), DropReason.BEFORE_SEND)

    @rule(number=st.integers(0, 4))
    def bury(self, number: int) -> None:
        self.books.died([letter(entry) for entry in self.some(number)])

    @rule(really=st.integers(0, 9))
    def close(self, really: int) -> None:
        if not really:
            pending = self.books.pending
            assert self.books.close() == pending
            self.closed = True

    @invariant()
    def the_ledger_adds_up(self) -> None:
        stats = self.books.read("closed")
        assert stats.balanced
        assert stats.captured == self.captured
        assert stats.dead == len(self.books.dead_letters()) <= self.max_dead
        assert 0 not in stats.dropped.values()
        if self.closed:
            assert stats.pending == self.books.pending == 0
        else:
            waiting, _, since = self.books.waiting()
            assert stats.pending == self.books.pending == waiting + len(self.claimed)
            assert since is not None or not waiting


TestBooks = BooksMachine.TestCase
