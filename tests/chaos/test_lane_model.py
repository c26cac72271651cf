"""Model test of a lane: after any sequence of events, each record has exactly one outcome.

The clock stands still unless a rule moves it, and calls come back when a rule says so: no thread, no socket, no chance
but Hypothesis's own.
"""

from __future__ import annotations

import math
import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sessionsight.capture.records import EventRecord, Goal, Identify, QueuedRecord
from sessionsight.delivery.dispatcher import Dispatcher
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.base import Spool
from sessionsight.delivery.queue.durable_spool import DurableSpool
from sessionsight.delivery.queue.factory import open_spool
from sessionsight.delivery.queue.memory import MemorySpool
from sessionsight.delivery.sender_pool import Attempt, Result, Sender
from sessionsight.delivery.stores.base import MAX_TAKEOVERS, SUSPECT_TAKEOVERS, DeadLetter, LaneBatch
from sessionsight.delivery.transport import InvalidCall, NotSent, OutcomeUnknown, TimeLimits, TransportError
from sessionsight.destinations.base import VendorRequest, VendorResponse
from sessionsight.log import LaneLogger, ThrottledLogger
from tests.core.delivery.kit import USER, Vendor, quick
from tests.core.delivery.spools import abandon
from tests.support.clock import FrozenClock
from tests.support.examples import examples

ANSWERS: dict[str, VendorResponse | TransportError] = {
    "taken": VendorResponse(status=200),
    "taken but for the first": VendorResponse(status=200, body=b'{"refused": {"0": "no such goal"}}'),
    "later": VendorResponse(status=429, headers={"retry-after": "7"}),
    "too large": VendorResponse(status=413),
    "bad record": VendorResponse(status=400),
    "bad key": VendorResponse(status=401),
    "broken": VendorResponse(status=500),
    "not reached": NotSent("nobody listens"),
    "hung up": OutcomeUnknown("no reply"),
    "unsendable": InvalidCall("a line break in the key"),
}
UNKNOWN = {"broken", "hung up"}
MAX_AGE = 5_000.0


class Hands:
    """A `Sender` whose calls return when a rule says so."""

    next_deadline = math.inf

    def __init__(self) -> None:
        self.calls: dict[Attempt, VendorRequest] = {}
        self.submitted: list[VendorRequest] = []
        self._done: list[tuple[Attempt, Result]] = []

    @property
    def in_flight(self) -> int:
        return len(self.calls) + len(self._done)

    def submit(self, call: VendorRequest, limits: TimeLimits) -> Attempt:
        attempt = Attempt(sender=cast("Sender", self), call=call, limits=limits, host="", deadline=math.inf)
        self.calls[attempt] = call
        self.submitted.append(call)
        return attempt

    def bring_back(self, attempt: Attempt, result: VendorResponse | TransportError) -> None:
        del self.calls[attempt]
        self._done.append((attempt, result))

    def completed(self) -> list[tuple[Attempt, Result]]:
        done, self._done = self._done, []
        return done


def token_of(entry: QueuedRecord) -> str:
    """Return the model's name of a record: its name, or the traits of an identification."""
    return entry.record.properties.decode() if isinstance(entry.record, Identify) else entry.record.label


def tokens_of(call: VendorRequest) -> list[str]:
    return [token_of(entry) for entry in call.entries]


class LaneModel(RuleBasedStateMachine):
    """One lane with a memory spool."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FrozenClock()
        self.patch = pytest.MonkeyPatch()
        self.offered: Counter[str] = Counter()
        self.duplicates = 0
        self.said: dict[str, list[str]] = {}
        self.launched: set[str] = set()
        """Records sent since the process began."""
        self.gone: set[str] = set()
        """Records that became dead letters, including those that were replaced by later ones."""
        self.delivered: set[str] = set()
        self.refused: set[str] = set()
        self.doubtful: set[str] = set()
        self.killed: Counter[str] = Counter()
        """How many processes were killed that had sent a record."""
        self.unnoticed: list[tuple[list[str], str]] = []
        """Responses that the lane has not processed yet."""
        self.seen = 0
        self.wait = 0.0

    def open_spool(self, options: DeliveryOptions) -> Spool:
        return MemorySpool(options, clock=self.clock)

    @initialize(
        idempotent=st.booleans(),
        concurrency=st.integers(1, 3),
        max_records=st.integers(1, 4),
        queue_records=st.integers(4, 12),
        dead_letters=st.integers(2, 20),
    )
    def open_lane(self, idempotent: bool, concurrency: int, max_records: int, **bounds: int) -> None:
        self.options = quick(
            breaker_failures=3, backoff_base=1.0, backoff_max=20.0, pause_interval=30.0, max_age=MAX_AGE, **bounds
        )
        self.vendor = Vendor(
            "http://127.0.0.1:9", concurrency=concurrency, max_records=max_records, idempotent=idempotent
        )
        self.open_queue()

    def open_queue(self) -> None:
        self.hands = Hands()
        self.seen = 0
        self.spool = self.open_spool(self.options)
        self.queue = self.spool.lane("vendor")
        hands: Any = self.hands
        died = self.queue.dead_letter

        def note_and_die(letters: Sequence[DeadLetter]) -> None:
            self.gone.update(token_of(letter.entry) for letter in letters)
            died(letters)

        self.patch.setattr(self.queue, "dead_letter", note_and_die)
        self.dispatcher = Dispatcher(
            self.vendor,
            self.queue,
            hands,
            self.options,
            LaneLogger("vendor", ThrottledLogger(buffered=True)),
            linger=self.options.linger,
            clock=self.clock,
            random=random.Random(0).random,
        )

    # --- rules -------------------------------------------------------------------------------------

    @rule(number=st.integers(1, 5), goal=st.booleans(), keyed=st.booleans())
    def offer(self, number: int, goal: bool, keyed: bool) -> None:
        """Enqueue records of a request, keyed ones twice."""
        entries: list[QueuedRecord] = []
        for _ in range(number):
            token = f"{'goal' if goal else 'event'} {len(self.offered)}"
            key = token if keyed else None
            entropy = len(self.offered).to_bytes(10, "big")
            now = self.clock.time()
            record: Goal | EventRecord = (
                Goal(random=entropy, time=now, goal_id=token, direction="increment", key=key)
                if goal
                else EventRecord(random=entropy, time=now, name=token, key=key)
            )
            times = 2 if keyed else 1
            entries += [QueuedRecord(record, USER, now)] * times
            self.offered[token] += times
            self.duplicates += times - 1
        self.spool.enqueue([LaneBatch("vendor", entries)])

    @rule(people=st.lists(st.integers(0, 1), min_size=1, max_size=4))
    def identify(self, people: list[int]) -> None:
        """Enqueue identifications, which must arrive in their order."""
        entries: list[QueuedRecord] = []
        for person in people:
            token = f'{{"{person}": {len(self.offered)}}}'
            entropy = len(self.offered).to_bytes(10, "big")
            now = self.clock.time()
            record = Identify(random=entropy, time=now, user_id=f"user_{person}", properties=token.encode())
            entries.append(QueuedRecord(record, USER, now))
            self.offered[token] += 1
            self.said.setdefault(record.user_id or "", []).append(token)
        self.spool.enqueue([LaneBatch("vendor", entries)])

    @rule()
    def turn(self) -> None:
        """Run the lane once."""
        self.wait = self.dispatcher.run_once()
        for tokens, answer in self.unnoticed:
            self.note(tokens, answer)
        self.unnoticed.clear()
        self.look_at_launches()
        self.note_deaths()
        assert self.wait >= 0
        if self.queue.pending and not self.hands.in_flight:
            assert self.wait < math.inf, "records wait, and the lane sleeps forever"

    @precondition(lambda self: self.hands.calls)
    @rule(which=st.integers(0, 2), answer=st.sampled_from(sorted(ANSWERS)), noticed=st.booleans())
    def answer(self, which: int, answer: str, noticed: bool) -> None:
        """Return from a call; the lane processes it now or with the next ones."""
        attempt = [*self.hands.calls][which % len(self.hands.calls)]
        self.unnoticed.append((tokens_of(self.hands.calls[attempt]), answer))
        self.hands.bring_back(attempt, ANSWERS[answer])
        if noticed:
            self.turn()

    def note(self, tokens: list[str], answer: str) -> None:
        if answer.startswith("taken"):
            refused = tokens[:1] if answer != "taken" else []
            self.refused |= set(refused)
            self.delivered |= set(tokens) - set(refused)
        elif answer in UNKNOWN:
            self.doubtful |= set(tokens)

    @rule(seconds=st.sampled_from([0.2, 1.0, 4.0, 8.0, 15.0, 30.0, 60.0, MAX_AGE + 1]))
    def pass_time(self, seconds: float) -> None:
        """Advance the clock, possibly so far that records expire."""
        self.clock.now += seconds
        self.turn()

    @rule()
    def resume(self) -> None:
        """Resume the lane."""
        self.dispatcher.resume()

    # --- invariants ---------------------------------------------------------------------------------

    def look_at_launches(self) -> None:
        """No resolved record is sent again, and no record is in flight twice."""
        limits = self.vendor.limits
        assert self.hands.in_flight <= limits.concurrency
        for call in self.hands.submitted[self.seen :]:
            tokens = set(tokens_of(call))
            assert len(tokens) == len(call.entries) <= limits.max_records
            assert not tokens & self.delivered
            assert not tokens & self.refused
            if not limits.idempotent:
                assert not tokens & self.doubtful, "sent again although it may have arrived"
            self.look_at_order(tokens_of(call))
        self.seen = len(self.hands.submitted)
        flying = [token for call in self.hands.calls.values() for token in tokens_of(call)]
        assert len(flying) == len(set(flying))

    def look_at_order(self, tokens: list[str]) -> None:
        """A record about a person is sent only after all earlier ones are resolved, or in the same call."""
        settled = self.delivered | self.gone
        for said in self.said.values():
            going = [token for token in tokens if token in said]
            assert going == sorted(going, key=said.index)
            if going:
                earlier = set(said[: said.index(going[0])]) & self.launched
                assert earlier <= settled, "overtaken"
                assert not set(said[said.index(going[-1]) + 1 :]) & self.delivered, "sent after a later one has arrived"
            self.launched |= set(going)

    def note_deaths(self) -> None:
        for letter in self.queue.dead_letters():
            token = token_of(letter.entry)
            assert token not in self.delivered
            assert letter.reason in {"refused", "too_large", "unknown", "expired", "internal_error"}
            if letter.reason == "internal_error":
                assert self.killed[token] >= MAX_TAKEOVERS - SUSPECT_TAKEOVERS, "it has not ended enough processes"
            if letter.reason == "unknown":
                assert not self.vendor.limits.idempotent
                assert token in self.doubtful

    @invariant()
    def the_ledger_adds_up(self) -> None:
        stats = self.queue.snapshot("closed")
        assert stats.balanced, stats
        assert stats.captured == self.offered.total()
        assert self.spool.durable or stats.pending <= self.options.queue_records
        assert stats.dead == len(self.queue.dead_letters()) <= self.options.dead_letters
        assert stats.dropped.get("duplicate", 0) <= self.duplicates
        assert stats.dropped.keys() <= {"duplicate", "queue_full", "dead_letters_full"}
        # Claims of a dead process count as pending before they are recovered.
        assert self.queue.pending <= stats.pending if self.spool.durable else self.queue.pending == stats.pending

    def teardown(self) -> None:
        """Once the vendor works, every record is resolved."""
        try:
            if hasattr(self, "queue"):
                self.drain()
        finally:
            self.patch.undo()
            self.clean_up()

    def clean_up(self) -> None:
        """Close the queue."""

    def drain(self) -> None:
        for _ in range(20 * len(self.offered) + 20):
            self.turn()
            if not self.queue.snapshot("closed").pending:
                break
            while self.hands.calls:
                self.answer(0, "taken", noticed=False)
            self.clock.now += min(self.wait, 60.0)
        stats = self.queue.snapshot("closed")
        assert stats.pending == 0, "the vendor is well, and the lane does not deliver"
        dead = {token_of(letter.entry) for letter in self.queue.dead_letters()}
        assert stats.delivered == len(self.delivered)
        assert not self.delivered & dead
        assert stats.delivered + stats.dead + sum(stats.dropped.values()) == self.offered.total()
        gone = len(self.offered) - len(self.delivered) - len(dead)
        assert gone == sum(stats.dropped.values()) - stats.dropped.get("duplicate", 0)


class DurableLaneModel(LaneModel):
    """One lane with a durable spool, whose process can be killed between any two steps."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()

    def open_spool(self, options: DeliveryOptions) -> Spool:
        return open_spool(
            f"sqlite:///{self.folder.name}/spool.db", options, ThrottledLogger(buffered=True), clock=self.clock
        )

    @precondition(lambda self: hasattr(self, "queue"))
    @rule()
    def kill(self) -> None:
        """Kill the process and start another one. Records in flight may have arrived."""
        for call in self.hands.calls.values():
            self.doubtful |= set(tokens_of(call))
        for tokens, _ in self.unnoticed:
            self.doubtful |= set(tokens)
        self.unnoticed.clear()
        self.killed.update({token for call in self.hands.submitted for token in tokens_of(call)})
        self.launched.clear()
        abandon_file(self.spool)
        self.open_queue()

    def clean_up(self) -> None:
        if hasattr(self, "spool"):
            abandon_file(self.spool)
        self.folder.cleanup()


def abandon_file(spool: Any) -> None:
    assert isinstance(spool, DurableSpool)
    abandon(spool)  # type: ignore[arg-type]


TestLaneInMemory = LaneModel.TestCase
TestLaneInMemory.settings = settings(max_examples=examples(1.5), stateful_step_count=40)
TestLaneInAFile = DurableLaneModel.TestCase
TestLaneInAFile.settings = settings(max_examples=examples(0.5), stateful_step_count=40)
