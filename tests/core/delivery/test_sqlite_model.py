"""Model test of several processes that share a file: each record is in exactly one place at any time."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sessionsight.capture.records import DropReason, QueuedRecord
from sessionsight.delivery.queue.durable import DurableLaneQueue
from sessionsight.delivery.stores.base import LaneBatch
from sessionsight.delivery.stores.sqlite import owner_lock
from tests.core.delivery.kit import event, goal
from tests.core.delivery.spools import SqliteSpool, abandon, letter, sound, sqlite_spool
from tests.support.examples import examples

LANES = ("a", "b")
processes = st.integers(0, 2)
lanes = st.sampled_from(LANES)


class Processes(RuleBasedStateMachine):
    """Three processes that share a file; each can die and be replaced."""

    @initialize(keep=st.integers(1, 3))
    def begin(self, keep: int) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "spool.db"
        self.keep = keep
        self.spools = [self.new() for _ in range(3)]
        self.claimed: dict[tuple[int, str], list[QueuedRecord]] = {(at, lane): [] for at in range(3) for lane in LANES}
        self.captured: Counter[str] = Counter()
        # Records that a lane has claimed, except those of processes that died before sending them.
        self.given: Counter[tuple[str, int]] = Counter()
        # The number of calls for each record and lane, except those that were certainly not received.
        self.sent: Counter[tuple[str, bytes]] = Counter()
        # Records claimed by processes that have shut down, and that might still try to send them.
        self.left: list[tuple[DurableLaneQueue, list[QueuedRecord]]] = []

    def new(self) -> SqliteSpool:
        return sqlite_spool(self.path, *LANES, dead_letters=self.keep)

    def teardown(self) -> None:
        if hasattr(self, "spools"):
            for spool in self.spools:
                spool.close()
            shutil.rmtree(self.folder)

    @rule(
        at=processes,
        entries=st.lists(
            st.builds(
                lambda make, key: make("seen", key=key),
                st.sampled_from([event, goal]),
                st.sampled_from([None, None, "k1", "k2"]),
            ),
            max_size=4,
        ),
        wanted=st.sets(lanes, min_size=1),
        dropped=st.lists(st.just(DropReason.CONSENT), max_size=1),
    )
    def enter(self, at: int, entries: list[QueuedRecord], wanted: set[str], dropped: list[DropReason]) -> None:
        self.spools[at].enqueue([LaneBatch(lane, entries, dropped) for lane in sorted(wanted)])
        for lane in wanted:
            self.captured[lane] += len(entries) + len(dropped)

    @rule(at=processes, lane=lanes, number=st.integers(1, 40))
    def claim(self, at: int, lane: str, number: int) -> None:
        claimed = self.spools[at].lane(lane).claim(number, 10**9)
        self.claimed[at, lane] += claimed
        for entry in claimed:
            assert not self.given[lane, entry.handle], "given out twice"
            self.given[lane, entry.handle] += 1

    def some(self, at: int, lane: str, number: int) -> list[QueuedRecord]:
        held = self.claimed[at, lane]
        self.claimed[at, lane] = held[number:]
        for entry in held[:number]:  # another record may get its row id
            self.given.pop((lane, entry.handle), None)
        return held[:number]

    @rule(at=processes, lane=lanes, number=st.integers(0, 3))
    def deliver(self, at: int, lane: str, number: int) -> None:
        self.spools[at].lane(lane).ack(self.some(at, lane, number))

    @rule(at=processes, lane=lanes, number=st.integers(0, 3))
    def drop(self, at: int, lane: str, number: int) -> None:
        self.spools[at].lane(lane).drop(self.some(at, lane, number), DropReason.BEFORE_SEND)

    @rule(at=processes, lane=lanes, number=st.integers(0, 3))
    def dead_letter(self, at: int, lane: str, number: int) -> None:
        self.spools[at].lane(lane).dead_letter([letter(entry) for entry in self.some(at, lane, number)])

    @rule(at=processes, lane=lanes, number=st.integers(0, 3), back=st.booleans())
    def send(self, at: int, lane: str, number: int, back: bool) -> None:
        held = self.claimed[at, lane][:number]
        queue = self.spools[at].lane(lane)
        sent = queue.mark_in_flight(held, durably=True)
        assert sent is not None
        assert [entry for entry in held if entry in sent] == sent
        for entry in sent:
            self.sent[lane, entry.record.random] += 1
            assert self.sent[lane, entry.record.random] == 1, "sent twice"
        if back:
            queue.clear_in_flight(sent, durably=True)
            self.sent.subtract((lane, entry.record.random) for entry in sent)

    @rule()
    def send_too_late(self) -> None:
        for queue, entries in self.left:
            assert queue.mark_in_flight(entries, durably=True) == []

    @rule(at=processes)
    def delete_the_lock_file(self, at: int) -> None:
        """The owner locks again at its next maintenance, and keeps its claims."""
        owner_lock.remove(str(self.path), self.spools[at].store.owner_id)
        self.tend(at)

    @rule(at=processes)
    def tend(self, at: int) -> None:
        self.spools[at].maintain()

    @rule(at=processes, lane=lanes, number=st.integers(1, 3), in_order=st.booleans())
    def end_with_calls_in_flight(self, at: int, lane: str, number: int, in_order: bool) -> None:
        self.enter(at, [goal(), goal(), event()], {lane}, [])
        self.claim(at, lane, number)
        self.send(at, lane, number, back=False)
        self.end(at, in_order)
        self.tend((at + 1) % 3)

    @rule(at=processes, in_order=st.booleans())
    def end(self, at: int, in_order: bool) -> None:
        if in_order:
            for lane in LANES:
                queue = self.spools[at].lane(lane)
                self.left.append((queue, self.claimed[at, lane]))
                assert queue.close() == 0
            self.spools[at].close()
        else:
            abandon(self.spools[at])
        self.spools[at] = self.new()
        for lane in LANES:
            for entry in self.claimed[at, lane]:
                self.given.pop((lane, entry.handle), None)
            self.claimed[at, lane] = []

    @invariant()
    def the_counters_add_up(self) -> None:
        if not hasattr(self, "spools"):
            return
        for lane in LANES:
            stats = self.spools[0].lane(lane).snapshot("closed")
            assert stats.balanced, stats
            assert stats.captured == self.captured[lane]
            assert stats.dead == len(self.spools[1].lane(lane).dead_letters()) <= self.keep
            held = sum(len(self.claimed[at, lane]) for at in range(3))
            assert stats.pending >= held
        assert not self.path.exists() or not self.captured or sound(self.path)


TestProcesses = Processes.TestCase
TestProcesses.settings = settings(max_examples=examples(0.6), stateful_step_count=20, deadline=None)
