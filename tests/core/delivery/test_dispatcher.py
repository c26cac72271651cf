"""The dispatcher's decisions, one iteration at a time, without a lane's thread."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessionsight.capture.records import Alias, Identify, QueuedRecord
from sessionsight.delivery.dispatcher import Dispatcher
from sessionsight.delivery.queue.memory import MemoryQueue
from sessionsight.delivery.sender_pool import Sender, SenderPool
from sessionsight.delivery.threads import WakeEvent
from sessionsight.delivery.transport import InvalidCall, NotSent, OutcomeUnknown, TimeLimits
from sessionsight.destinations.base import Action, VendorRequest, VendorResponse, Verdict
from sessionsight.log import LaneLogger, ThrottledLogger
from sessionsight.request.context import TrackingContext
from tests.core.delivery.kit import (
    USER,
    Vendor,
    batches,
    deaths,
    event,
    goal,
    labels,
    make_queue,
    quick,
    singles,
    tally,
)
from tests.support.clock import RunningClock
from tests.support.examples import examples
from tests.support.server import PATIENCE

URL = "http://127.0.0.1:1"
NEVER = float("inf")
LONG = 3600.0

Result = VendorResponse | Exception
OK = VendorResponse(status=200)


def http(status: int, **headers: str) -> VendorResponse:
    return VendorResponse(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()})


class PendingCall:
    """A call in flight, whose result the test decides."""

    def __init__(self, call: VendorRequest, limits: TimeLimits) -> None:
        self.limits = limits
        self.labels = labels(call.entries)
        self.result: Result = OK
        self.completed = threading.Event()


class FakeTransport:
    """A transport that the test controls."""

    def __init__(self) -> None:
        self.calls: deque[PendingCall] = deque()
        self.changed = threading.Condition()

    def send(self, call: VendorRequest, limits: TimeLimits) -> VendorResponse:
        pending = PendingCall(call, limits)
        with self.changed:
            self.calls.append(pending)
            self.changed.notify_all()
        assert pending.completed.wait(PATIENCE), "the test gave no result"
        if isinstance(pending.result, Exception):
            raise pending.result
        return pending.result

    def close(self) -> None:
        pass

    def wait_for(self, number: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.calls) >= number, PATIENCE)


class Harness:
    """A dispatcher with its queue and sender pool, which the test runs step by step."""

    def __init__(self, vendor: Vendor, queue: MemoryQueue | None = None, /, **options: Any) -> None:
        self.transport = FakeTransport()
        self.wake = WakeEvent()
        self.queue = queue or make_queue(**options)
        self.pool = SenderPool()
        self.sender = Sender(self.transport, self.pool, self.wake.set)
        self.clock = RunningClock()
        self.dispatcher = Dispatcher(
            vendor,
            self.queue,
            self.sender,
            quick(**options),
            LaneLogger(vendor.name, ThrottledLogger(clock=self.clock)),
            linger=quick(**options).linger,
            clock=self.clock,
            random=lambda: 0.9,
        )

    def enqueue(self, *entries: QueuedRecord) -> None:
        self.queue.enqueue(entries)

    def run_once(self, *, in_flight: int) -> float:
        """Run once, and expect this number of calls in flight. Return the seconds until the next run."""
        wait = self.dispatcher.run_once()
        assert self.sender.in_flight == in_flight
        self.transport.wait_for(in_flight)
        return wait

    def answer(self, result: Result, *, at: int = 0) -> list[str]:
        """Complete a call with this result. Return the labels of its records."""
        pending = self.transport.calls[at]
        self.transport.calls.remove(pending)
        pending.result = result
        pending.completed.set()
        self.wake.wait(PATIENCE)
        return pending.labels

    def next_call(self) -> list[str]:
        """Run until a call is in flight."""
        deadline = time.monotonic() + PATIENCE
        while True:
            wait = self.dispatcher.run_once()
            if self.sender.in_flight:
                self.transport.wait_for(1)
                return self.transport.calls[0].labels
            assert time.monotonic() < deadline, "nothing is sent"
            self.wake.wait(min(wait, PATIENCE))

    def round(self, result: Result) -> list[str]:
        """Wait for the next call and complete it with this result, which the next run handles."""
        self.next_call()
        return self.answer(result)

    def finish(self, decide: Callable[[list[str]], Result] = lambda names: OK) -> list[list[str]]:
        """Run until everything is settled. Return the calls that were made."""
        calls: list[list[str]] = []
        deadline = time.monotonic() + PATIENCE
        while True:
            wait = self.dispatcher.run_once()
            if not self.queue.pending:
                return calls
            if self.sender.in_flight:
                self.transport.wait_for(1)
                calls.append(self.transport.calls[0].labels)
                self.answer(decide(calls[-1]))
            else:
                assert time.monotonic() < deadline, f"{self.counts} after {calls}"
                self.wake.wait(min(wait, PATIENCE))

    def close(self) -> None:
        """Complete all calls, and end the threads."""
        while self.transport.calls:
            self.answer(OK)
        self.pool.stop()

    @property
    def counts(self) -> dict[str, Any]:
        return tally(self.queue.snapshot(self.dispatcher.state))


MakeHarness = Callable[..., Harness]


@pytest.fixture
def make_harness() -> Iterator[MakeHarness]:
    made: list[Harness] = []

    def make(vendor: Vendor, *queue: MemoryQueue, **options: Any) -> Harness:
        made.append(Harness(vendor, *queue, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def named(bad: str, result: Result) -> Callable[[list[str]], Result]:
    """Return this result for each call that contains the record."""
    return lambda names: result if bad in names else OK


# --- timing ---------------------------------------------------------------------------------------


def test_without_records_the_dispatcher_sleeps(make_harness: MakeHarness) -> None:
    assert make_harness(batches(URL)).run_once(in_flight=0) == NEVER


def test_a_record_lingers(make_harness: MakeHarness) -> None:
    harness = make_harness(batches(URL), linger=LONG)
    harness.enqueue(event("a"))

    assert LONG - PATIENCE < harness.run_once(in_flight=0) <= LONG

    harness.dispatcher.schedule.flushing = True
    harness.run_once(in_flight=1)


def test_while_a_call_is_in_flight_the_next_run_is_at_its_deadline(make_harness: MakeHarness) -> None:
    harness = make_harness(batches(URL), total_timeout=LONG)
    harness.enqueue(event("a"))

    assert LONG - PATIENCE < harness.run_once(in_flight=1) <= LONG + 1


@pytest.mark.parametrize("status", [408, 429, 503])
def test_retry_after_delays_all_records(make_harness: MakeHarness, status: int) -> None:
    harness = make_harness(singles(URL), retry_after_max=1000)
    harness.enqueue(goal("a"))
    harness.run_once(in_flight=1)
    harness.answer(http(status, retry_after="500"))
    harness.enqueue(goal("b"))

    assert 500 - PATIENCE < harness.run_once(in_flight=0) <= 500
    assert harness.counts == {"captured": 2, "pending": 2}


def test_retry_after_is_obeyed_when_the_outcome_is_unknown(make_harness: MakeHarness) -> None:
    harness = make_harness(singles(URL), retry_after_max=1000)
    harness.enqueue(goal("a"))
    harness.run_once(in_flight=1)
    harness.answer(http(500, retry_after="500"))
    harness.enqueue(goal("b"))

    assert 500 - PATIENCE < harness.run_once(in_flight=0) <= 500
    assert harness.counts == {"captured": 2, "dead": 1, "pending": 1}


def test_a_few_failures_delay_only_their_own_records(make_harness: MakeHarness) -> None:
    harness = make_harness(batches(URL), backoff_base=LONG, backoff_max=LONG)
    harness.enqueue(event("a"))
    assert harness.round(http(500)) == ["a"]
    harness.enqueue(event("b"))

    assert harness.round(OK) == ["b"]
    assert harness.run_once(in_flight=0) > 0
    assert harness.counts == {"captured": 2, "delivered": 1, "pending": 1}


def test_a_users_records_that_wait_for_a_retry_are_dropped_once_the_user_is_erased(make_harness: MakeHarness) -> None:
    harness = make_harness(batches(URL))
    harness.enqueue(event("a"), event("b"))
    harness.round(http(503, retry_after="1"))
    harness.run_once(in_flight=0)

    harness.dispatcher.erase("somebody else")
    harness.dispatcher.erase(str(USER.user_id))
    harness.clock.advance(1.0)
    harness.run_once(in_flight=0)
    assert harness.counts == {"captured": 2, "erased": 2}

    harness.enqueue(event("captured later", since=harness.clock.time()))
    assert harness.finish() == [["captured later"]]


def test_an_erasure_is_forgotten_when_no_record_can_be_older(make_harness: MakeHarness) -> None:
    harness = make_harness(batches(URL), max_age=100.0)
    harness.dispatcher.erase("user_1")
    harness.clock.advance(101.0)

    harness.dispatcher.erase("user_2")

    assert [*harness.dispatcher._erased] == ["user_2"]


def test_an_open_circuit_delays_all_records_and_then_probes_with_one_call(make_harness: MakeHarness) -> None:
    harness = make_harness(singles(URL, idempotent=True), breaker_failures=8)
    harness.enqueue(*(event(str(number)) for number in range(20)))
    harness.run_once(in_flight=8)
    for _ in range(8):
        harness.answer(http(500))

    for _ in range(5):
        harness.next_call()
        assert harness.dispatcher.state == "half-open"
        harness.run_once(in_flight=1)
        harness.answer(http(500))
    harness.round(OK)

    harness.run_once(in_flight=8)
    assert harness.dispatcher.state == "closed"
    assert harness.counts == {"captured": 20, "delivered": 1, "pending": 19}


def test_the_configured_rate_limit_is_obeyed(make_harness: MakeHarness) -> None:
    harness = make_harness(singles(URL, calls_per_minute=3))
    harness.enqueue(*(goal(name) for name in "abcde"))
    assert harness.run_once(in_flight=3) > 0
    for _ in range(3):
        harness.answer(OK)

    assert 60 - PATIENCE < harness.run_once(in_flight=0) <= 60
    harness.dispatcher.schedule.flushing = True
    assert harness.run_once(in_flight=0) > 60 - PATIENCE, "not even a flush exceeds it"
    harness.dispatcher.resume()
    assert harness.run_once(in_flight=0) > 60 - PATIENCE, "nor does resume"
    assert harness.counts == {"captured": 5, "delivered": 3, "pending": 2}


def test_after_the_shutdown_deadline_nothing_is_sent(make_harness: MakeHarness) -> None:
    harness = make_harness(batches(URL))
    harness.enqueue(event("a"))
    harness.dispatcher.deadline = time.monotonic() - 1

    harness.run_once(in_flight=0)

    assert harness.counts == {"captured": 1, "pending": 1}


def test_a_calls_time_limits_end_at_the_shutdown_deadline(make_harness: MakeHarness) -> None:
    harness = make_harness(batches(URL))
    harness.enqueue(event("a"))
    harness.dispatcher.deadline = time.monotonic() + 3

    harness.run_once(in_flight=1)

    limits = harness.transport.calls[0].limits
    assert max(limits.connect, limits.read, limits.total) <= 3


# --- pauses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("refusal", [http(401), http(302), InvalidCall("LocalProtocolError")])
def test_a_paused_lane_sends_only_one_probe_at_a_time(make_harness: MakeHarness, refusal: Result) -> None:
    harness = make_harness(singles(URL))
    harness.enqueue(*(goal(str(number)) for number in range(20)))
    harness.run_once(in_flight=8)
    for _ in range(8):
        harness.answer(refusal)

    for _ in range(5):
        harness.next_call()
        assert harness.dispatcher.state == "paused"
        harness.run_once(in_flight=1)
        harness.answer(refusal)
    assert harness.counts == {"captured": 20, "pending": 20}
    harness.round(OK)

    harness.run_once(in_flight=8)
    assert harness.dispatcher.state == "closed"


def test_a_pause_lasts_for_the_configured_interval(make_harness: MakeHarness) -> None:
    harness = make_harness(batches(URL, key="fixed"), pause_interval=LONG)
    harness.enqueue(event("a"))
    harness.round(http(401))

    assert 0 < harness.run_once(in_flight=0) <= 1, "it checks for a changed key in between"
    assert LONG - PATIENCE < harness.dispatcher._gate.delay(time.monotonic(), 0) <= LONG


def test_probes_of_a_paused_lane_try_other_records_as_well(make_harness: MakeHarness) -> None:
    harness = make_harness(singles(URL, concurrency=1))
    harness.enqueue(*(goal(name) for name in "abcd"))

    tried = [harness.round(http(401))[0] for _ in range(7)]

    assert tried == ["a", "b", "a", "c", "b", "d", "a"]


def test_probes_claim_few_records_from_the_queue(make_harness: MakeHarness) -> None:
    harness = make_harness(singles(URL, concurrency=1))
    harness.enqueue(*(goal(str(number)) for number in range(100)))

    for _ in range(50):
        harness.round(http(401))

    assert harness.queue.depth()[0] > 90


@pytest.mark.parametrize("status", [401, 404])
def test_a_record_that_alone_is_rejected_like_a_wrong_key_becomes_a_dead_letter(
    make_harness: MakeHarness, status: int
) -> None:
    harness = make_harness(singles(URL, concurrency=1))
    harness.enqueue(goal("bad"), *(goal(name) for name in "abcdefgh"))

    harness.finish(named("bad", http(status)))

    assert harness.counts == {"captured": 9, "delivered": 8, "dead": 1}
    assert deaths(harness.queue.dead_letters()) == {"bad": "refused"}


def test_a_batch_that_alone_is_rejected_is_bisected(make_harness: MakeHarness) -> None:
    harness = make_harness(batches(URL, max_records=4))
    harness.enqueue(event("a"), event("bad"), event("b"), event("c"), *(event(name) for name in "defghijklmno"))

    harness.finish(named("bad", http(403)))

    assert harness.counts == {"captured": 16, "delivered": 15, "dead": 1}
    assert deaths(harness.queue.dead_letters()) == {"bad": "refused"}


def test_a_key_that_expires_repeatedly_loses_no_record(make_harness: MakeHarness) -> None:
    harness = make_harness(batches(URL, max_records=2))
    harness.enqueue(*(event(str(number)) for number in range(20)))
    results = itertools.cycle([http(401), OK, OK])

    harness.finish(lambda names: next(results))

    assert harness.counts == {"captured": 20, "delivered": 20}


def test_a_success_of_a_call_sent_before_the_key_expired_does_not_blame_the_next(make_harness: MakeHarness) -> None:
    harness = make_harness(singles(URL, concurrency=2))
    harness.enqueue(goal("late"), goal("refused"))
    harness.run_once(in_flight=2)
    late = [pending.labels for pending in harness.transport.calls].index(["late"])
    harness.answer(http(401), at=1 - late)
    harness.run_once(in_flight=1)
    harness.answer(OK)

    for _ in range(10):
        assert harness.round(http(401)) == ["refused"]

    harness.run_once(in_flight=0)
    assert harness.counts == {"captured": 2, "delivered": 1, "pending": 1}


def test_a_key_that_changes_on_every_call_does_not_defeat_the_pause(make_harness: MakeHarness) -> None:
    numbers = itertools.count()
    harness = make_harness(batches(URL, key=lambda: f"token-{next(numbers)}"), pause_interval=10.0)
    harness.enqueue(event("a"))
    watch = harness.dispatcher._credentials
    intervals: list[int] = []

    for _ in range(6):
        harness.round(http(401))
        harness.run_once(in_flight=0)
        intervals.append(round(watch.next_check - harness.clock.monotonic()))
        harness.clock.advance(intervals[-1])

    assert intervals == [1, 2, 4, 8, 10, 10]


def test_a_key_that_cannot_be_read_during_a_pause_does_not_count_as_changed(make_harness: MakeHarness) -> None:
    keys: list[Any] = ["old"]

    def key() -> str:
        if isinstance(keys[-1], Exception):
            raise keys[-1]
        return str(keys[-1])

    harness = make_harness(batches(URL, key=key), pause_interval=LONG)
    harness.enqueue(event("a"))
    harness.round(http(401))
    for state in (RuntimeError("the vault is sealed"), "old"):
        keys.append(state)
        harness.run_once(in_flight=0)
        harness.clock.advance(1.0)
        assert harness.run_once(in_flight=0) > 0

    keys.append("new")
    harness.clock.advance(1.0)
    harness.run_once(in_flight=1)
    assert harness.counts == {"captured": 1, "pending": 1}


def test_a_pause_is_logged_once_however_often_it_probes(
    make_harness: MakeHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness = make_harness(batches(URL))
    harness.enqueue(event("a"))
    for _ in range(5):
        harness.round(http(401))
        harness.clock.advance(60.0)  # the same line may be logged again
    harness.finish()

    assert [record.levelname for record in caplog.records if record.levelno >= logging.WARNING] == ["ERROR"]
    assert "vendor: paused, because the vendor rejects our calls (HTTP 401); check key" in caplog.text


def test_a_pause_without_a_response_does_not_blame_the_vendor(
    make_harness: MakeHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness = make_harness(batches(URL))
    harness.enqueue(event("a"))
    harness.round(InvalidCall("ca_bundle '/none' cannot be used"))
    harness.finish()

    [line] = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert line.startswith("vendor: paused, because no request can be sent (ca_bundle '/none' cannot be used). Records")


# --- poison ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", [http(500), OutcomeUnknown("reset"), NotSent("refused"), http(429)])
def test_a_record_on_which_the_vendor_fails_does_not_block_others(make_harness: MakeHarness, result: Result) -> None:
    harness = make_harness(batches(URL, max_records=1), breaker_failures=2)
    harness.enqueue(event("poison"))
    for _ in range(3):
        assert harness.round(result) == ["poison"]
    harness.enqueue(*(event(name) for name in "abc"))
    delivered: list[str] = []

    for _ in range(20):
        [name] = harness.next_call()
        harness.answer(result if name == "poison" else OK)
        delivered += [name] if name != "poison" else []
        if len(delivered) == 3:
            break

    assert delivered == ["a", "b", "c"]
    harness.dispatcher.run_once()
    assert harness.dispatcher.state == "closed"


# --- internal errors ------------------------------------------------------------------------------


class Faulty(Vendor):
    """Returns the verdict that the test sets."""

    verdict: Any = None

    def classify(self, call: VendorRequest, reply: VendorResponse) -> Verdict:
        verdict: Verdict = self.verdict
        return verdict


@pytest.mark.parametrize(
    "verdict",
    [
        None,
        5,
        Verdict(action=Action.DELIVERED, rejected=None),  # type: ignore[arg-type]
        Verdict(action=Action.DELIVERED, rejected=7),  # type: ignore[arg-type]
    ],
)
def test_an_invalid_verdict_loses_no_record(
    make_harness: MakeHarness, verdict: Any, caplog: pytest.LogCaptureFixture
) -> None:
    vendor = Faulty(URL, max_records=10)
    vendor.verdict = verdict
    harness = make_harness(vendor)
    harness.enqueue(event("a"), event("b"))

    harness.finish()

    assert harness.counts == {"captured": 2, "dead": 2}
    assert deaths(harness.queue.dead_letters()) == {"a": "internal_error", "b": "internal_error"}
    assert "internal error in delivery" in caplog.text


def test_rejected_positions_that_do_not_exist_are_ignored(make_harness: MakeHarness) -> None:
    vendor = Faulty(URL, max_records=10)
    vendor.verdict = Verdict(action=Action.DELIVERED, rejected={-1: "x", 1: "y", 2: "z", 99: "z"})
    harness = make_harness(vendor)
    harness.enqueue(event("a"), event("b"))

    harness.finish()

    assert harness.counts == {"captured": 2, "delivered": 1, "dead": 1}
    assert deaths(harness.queue.dead_letters()) == {"b": "refused"}


def test_an_error_in_one_result_does_not_affect_others(
    make_harness: MakeHarness, caplog: pytest.LogCaptureFixture
) -> None:
    class Once(Vendor):
        def classify(self, call: VendorRequest, reply: VendorResponse) -> Verdict:
            return Verdict(action=Action.DELIVERED) if reply.status == 200 else None  # type: ignore[return-value]

    harness = make_harness(Once(URL, max_records=1, concurrency=3))
    harness.enqueue(*(event(name) for name in "abc"))
    harness.run_once(in_flight=3)
    for status in (299, 200, 299):
        harness.answer(http(status))

    harness.run_once(in_flight=0)

    assert harness.counts == {"captured": 3, "delivered": 1, "dead": 2}


def test_a_keyboard_interrupt_is_propagated_and_loses_no_record(make_harness: MakeHarness) -> None:
    class Interrupted(Vendor):
        def classify(self, call: VendorRequest, reply: VendorResponse) -> Verdict:
            raise KeyboardInterrupt

    harness = make_harness(Interrupted(URL))
    harness.enqueue(event("a"))
    harness.round(OK)

    with pytest.raises(KeyboardInterrupt):
        harness.dispatcher.run_once()

    assert harness.counts == {"captured": 1, "dead": 1}


def test_an_error_while_sending_loses_no_record(make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness = make_harness(batches(URL))
    harness.enqueue(event("a"))

    def submit(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(harness.sender, "submit", submit)
    harness.dispatcher.run_once()

    assert harness.counts == {"captured": 1, "dead": 1}
    assert deaths(harness.queue.dead_letters()) == {"a": "internal_error"}


RESULTS: list[Result] = [
    *(http(status) for status in (200, 200, 204, 302, 400, 401, 413, 422, 429, 500, 503)),
    http(429, retry_after="0"),
    NotSent("x"),
    OutcomeUnknown("x"),
    InvalidCall("x"),
]


@given(
    vendor=st.sampled_from([batches, singles]),
    concurrency=st.integers(1, 4),
    max_records=st.integers(1, 5),
    breaker_failures=st.integers(1, 4),
    queue_records=st.integers(5, 40),
    dead_letters=st.integers(1, 20),
    steps=st.lists(st.tuples(st.integers(0, 6), st.sampled_from(RESULTS), st.integers(0, 100)), max_size=30),
)
@settings(max_examples=examples(0.6))
def test_each_record_is_settled_once_for_any_results_in_any_order(
    *,
    vendor: Callable[..., Vendor],
    concurrency: int,
    max_records: int,
    steps: list[tuple[int, Result, int]],
    **options: int,
) -> None:
    harness = Harness(
        vendor(URL, concurrency=concurrency, max_records=max_records),
        pause_interval=0.001,
        backoff_max=0.001,
        **options,
    )
    try:
        for number, result, at in steps:
            harness.enqueue(*(event(str(number)) for number in range(number)))
            harness.dispatcher.run_once()
            assert harness.sender.in_flight <= concurrency
            harness.transport.wait_for(harness.sender.in_flight)
            if harness.transport.calls:
                harness.answer(result, at=at % len(harness.transport.calls))
            assert harness.queue.snapshot("closed").balanced
        while harness.transport.calls:
            harness.answer(OK)

        harness.finish()

        assert harness.counts.get("captured", 0) == sum(number for number, _, _ in steps)
        assert not harness.dispatcher._in_flight
        assert not harness.dispatcher.schedule._retries
        assert not harness.dispatcher.schedule._parts
    finally:
        harness.close()


# --- in-pending marks of a durable spool -----------------------------------------------------------


class Marks(MemoryQueue):
    """A queue that records which entries are marked as in flight, or fails to mark them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(quick(**options))
        self.marked: set[str] = set()
        self.given_back: set[str] = set()
        self.writable = True

    def mark_in_flight(self, entries: Sequence[QueuedRecord], *, durably: bool) -> Sequence[QueuedRecord] | None:
        held = [entry for entry in entries if entry.record.label not in self.given_back]
        if durably and not self.writable:
            return None
        if durably:
            self.marked.update(labels(held))
        return held

    def clear_in_flight(self, entries: Sequence[QueuedRecord], *, durably: bool) -> None:
        self.marked.difference_update(labels(entries))


Marking = Callable[..., tuple[Harness, Marks]]


@pytest.fixture
def marking(make_harness: MakeHarness) -> Marking:
    def make(vendor: Vendor, **options: Any) -> tuple[Harness, Marks]:
        marks = Marks(**options)
        return make_harness(vendor, marks, **options), marks

    return make


def test_a_goal_is_marked_before_it_is_sent(marking: Marking) -> None:
    harness, marks = marking(singles(URL))
    harness.enqueue(goal("G"))

    harness.run_once(in_flight=1)

    assert marks.marked == {"G"}
    harness.answer(OK)
    harness.run_once(in_flight=0)


@pytest.mark.parametrize("result", [http(503, retry_after="1"), http(401), http(400), NotSent("no route")], ids=str)
def test_the_mark_is_cleared_when_a_goal_has_certainly_not_arrived(marking: Marking, result: Result) -> None:
    harness, marks = marking(
        singles(URL), backoff_base=LONG, backoff_max=LONG, retry_after_max=LONG, pause_interval=LONG
    )
    harness.enqueue(goal("G"))

    harness.round(result)
    harness.run_once(in_flight=0)

    assert marks.marked == set()


def test_a_goal_that_may_have_arrived_stays_marked_until_it_is_a_dead_letter(marking: Marking) -> None:
    harness, marks = marking(singles(URL))
    harness.enqueue(goal("G"))

    harness.round(OutcomeUnknown("reset"))
    harness.run_once(in_flight=0)

    assert marks.marked == {"G"}
    assert deaths(marks.dead_letters()) == {"G": "unknown"}


def test_a_goal_that_cannot_be_marked_waits(marking: Marking) -> None:
    harness, marks = marking(singles(URL))
    marks.writable = False
    harness.enqueue(goal("G"))
    harness.run_once(in_flight=0)
    assert harness.queue.pending == 1

    marks.writable = True

    assert harness.finish() == [["G"]]


@pytest.mark.parametrize(
    ("vendor", "record"), [(batches(URL), event("a")), (singles(URL), goal("a"))], ids=["event", "goal"]
)
def test_records_given_back_while_their_call_was_prepared_are_not_sent(
    marking: Marking, vendor: Vendor, record: QueuedRecord
) -> None:
    harness, marks = marking(vendor)
    marks.given_back = {"a"}
    harness.enqueue(record)

    harness.run_once(in_flight=0)

    assert marks.marked == set()
    assert not harness.dispatcher.schedule._parts
    assert not harness.dispatcher.schedule._retries


def test_the_rest_of_a_call_is_sent_without_the_records_given_back(marking: Marking) -> None:
    harness, marks = marking(batches(URL))
    marks.given_back = {"b"}
    harness.enqueue(event("a"), event("b"), event("c"))

    harness.run_once(in_flight=1)

    assert harness.answer(OK) == ["a", "c"]
    harness.run_once(in_flight=0)


def test_records_about_a_person_do_not_wait_for_one_that_was_given_back(marking: Marking) -> None:
    harness, marks = marking(batches(URL))
    marks.given_back = {"identify"}
    context, now = TrackingContext(), time.time()
    harness.enqueue(QueuedRecord(Identify(random=b"1" * 10, time=now, user_id="user_1"), context, now))
    harness.run_once(in_flight=0)

    harness.enqueue(QueuedRecord(Alias(random=b"2" * 10, time=now, user_id="user_1", alias="visitor"), context, now))

    assert harness.next_call() == ["alias"]
    harness.answer(OK)
    harness.run_once(in_flight=0)


def test_nothing_is_sent_once_the_queue_is_closed(make_harness: MakeHarness) -> None:
    """Claimed records are counted as lost by then."""
    harness = make_harness(singles(URL), backoff_base=0.0)
    harness.enqueue(goal("G"))
    harness.round(http(503))
    assert harness.queue.close() == 1

    harness.run_once(in_flight=0)

    assert tally(harness.queue.snapshot("closed")) == {"captured": 1, "shutdown": 1}


@pytest.mark.parametrize(
    ("vendor", "options"), [(batches(URL), {}), (singles(URL), {"goals_on_unknown": "retry"})], ids=["events", "retry"]
)
def test_records_that_may_be_sent_twice_are_not_marked(
    marking: Marking, vendor: Vendor, options: dict[str, Any]
) -> None:
    harness, marks = marking(vendor, **options)
    harness.enqueue(event("a"))

    harness.run_once(in_flight=1)

    assert marks.marked == set()
    harness.answer(OK)
    harness.run_once(in_flight=0)


def test_an_error_after_a_job_has_been_scheduled_again_loses_no_record(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_harness(batches(URL))
    harness.enqueue(event("a"))
    harness.run_once(in_flight=1)

    def set_last_error(message: str | None) -> None:
        raise MemoryError

    monkeypatch.setattr(harness.queue, "set_last_error", set_last_error)
    harness.answer(VendorResponse(status=503))
    harness.dispatcher.run_once()
    monkeypatch.undo()

    assert harness.counts == {"captured": 1, "pending": 1}
    harness.finish()
    assert harness.counts == {"captured": 1, "delivered": 1}


def test_an_error_after_records_were_acknowledged_makes_no_dead_letters(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_harness(batches(URL))
    harness.enqueue(event("a"))
    harness.run_once(in_flight=1)
    ack = harness.queue.ack

    def ack_and_fail(entries: Sequence[QueuedRecord]) -> None:
        ack(entries)
        raise MemoryError

    monkeypatch.setattr(harness.queue, "ack", ack_and_fail)
    harness.answer(OK)
    harness.dispatcher.run_once()

    assert harness.counts == {"captured": 1, "delivered": 1}
