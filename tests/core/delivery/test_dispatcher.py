"""The dispatcher's decisions one turn at a time, without a thread of its own."""

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

from sessionsight.capture.records import QueuedRecord
from sessionsight.delivery.dispatcher import Dispatcher
from sessionsight.delivery.queue.memory import MemoryQueue
from sessionsight.delivery.sender_pool import SenderPool
from sessionsight.delivery.threads import WakeEvent
from sessionsight.delivery.transport import InvalidCall, NotSent, OutcomeUnknown, TimeLimits
from sessionsight.destinations.base import Action, VendorRequest, VendorResponse, Verdict
from sessionsight.log import LaneLogger, ThrottledLogger
from tests.core.delivery.kit import Vendor, batches, deaths, event, goal, labels, make_queue, quick, singles, tally
from tests.support.examples import examples
from tests.support.server import PATIENCE

URL = "http://127.0.0.1:1"
NEVER = float("inf")
LONG = 3600.0

Result = VendorResponse | Exception
OK = VendorResponse(status=200)


def http(status: int, **headers: str) -> VendorResponse:
    return VendorResponse(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()})


class Flight:
    """A call under way, whose result the test decides."""

    def __init__(self, call: VendorRequest, limits: TimeLimits) -> None:
        self.limits = limits
        self.labels = labels(call.entries)
        self.result: Result = OK
        self.back = threading.Event()


class Wire:
    """A transport in the test's hand."""

    def __init__(self) -> None:
        self.flights: deque[Flight] = deque()
        self.changed = threading.Condition()

    def send(self, call: VendorRequest, limits: TimeLimits) -> VendorResponse:
        flight = Flight(call, limits)
        with self.changed:
            self.flights.append(flight)
            self.changed.notify_all()
        assert flight.back.wait(PATIENCE), "the test never gave a result"
        if isinstance(flight.result, Exception):
            raise flight.result
        return flight.result

    def close(self) -> None:
        pass

    def wait_for(self, number: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.flights) >= number, PATIENCE)


class Bench:
    """A dispatcher with everything around it, turned by hand."""

    def __init__(self, vendor: Vendor, queue: MemoryQueue | None = None, /, **options: Any) -> None:
        self.wire = Wire()
        self.wake = WakeEvent()
        self.queue = queue or make_queue(**options)
        self.senders = SenderPool(self.wire, name="bench", wake=self.wake)
        self.dispatcher = Dispatcher(
            vendor, self.queue, self.senders, quick(**options), LaneLogger(vendor.name, ThrottledLogger())
        )

    def take(self, *entries: QueuedRecord) -> None:
        self.queue.enqueue(entries)

    def turn(self, *, under_way: int) -> float:
        """One turn, after which so many calls are under way. Gives the seconds until the next."""
        wait = self.dispatcher.run_once()
        assert self.senders.in_flight == under_way
        self.wire.wait_for(under_way)
        return wait

    def answer(self, result: Result, *, at: int = 0) -> list[str]:
        """Let a call come back with this. Gives the labels of its records."""
        flight = self.wire.flights[at]
        self.wire.flights.remove(flight)
        flight.result = result
        flight.back.set()
        self.wake.wait(PATIENCE)
        return flight.labels

    def next_call(self) -> list[str]:
        """Turn until a call is under way, however long that has to wait."""
        deadline = time.monotonic() + PATIENCE
        while True:
            wait = self.dispatcher.run_once()
            if self.senders.in_flight:
                self.wire.wait_for(1)
                return self.wire.flights[0].labels
            assert time.monotonic() < deadline, "nothing is sent"
            self.wake.wait(min(wait, PATIENCE))

    def round(self, result: Result) -> list[str]:
        """Wait for the next call and let it come back with this; the next turn hears of it."""
        self.next_call()
        return self.answer(result)

    def finish(self, decide: Callable[[list[str]], Result] = lambda names: OK) -> list[list[str]]:
        """Go on until everything is settled. Gives the calls that were made."""
        calls: list[list[str]] = []
        deadline = time.monotonic() + PATIENCE
        while True:
            wait = self.dispatcher.run_once()
            if not self.queue.pending:
                return calls
            if self.senders.in_flight:
                self.wire.wait_for(1)
                calls.append(self.wire.flights[0].labels)
                self.answer(decide(calls[-1]))
            else:
                assert time.monotonic() < deadline, f"{self.counts} after {calls}"
                self.wake.wait(min(wait, PATIENCE))

    @property
    def counts(self) -> dict[str, Any]:
        return tally(self.queue.snapshot(self.dispatcher.state))


MakeBench = Callable[..., Bench]


@pytest.fixture
def bench() -> Iterator[MakeBench]:
    benches: list[Bench] = []

    def make(vendor: Vendor, **options: Any) -> Bench:
        benches.append(Bench(vendor, **options))
        return benches[-1]

    yield make
    for each in benches:
        while each.wire.flights:
            each.answer(OK)
        each.senders.stop()


def named(bad: str, result: Result) -> Callable[[list[str]], Result]:
    """A vendor that gives this result wherever the record is among the call's."""
    return lambda names: result if bad in names else OK


# --- when -----------------------------------------------------------------------------------------


def test_with_nothing_to_do_there_is_nothing_to_wait_for(bench: MakeBench) -> None:
    assert bench(batches(URL)).turn(under_way=0) == NEVER


def test_a_record_waits_for_company_as_long_as_the_linger(bench: MakeBench) -> None:
    desk = bench(batches(URL), linger=LONG)
    desk.take(event("a"))

    assert LONG - PATIENCE < desk.turn(under_way=0) <= LONG

    desk.dispatcher.schedule.flushing = True
    desk.turn(under_way=1)


def test_while_a_call_is_under_way_the_next_moment_is_its_deadline(bench: MakeBench) -> None:
    desk = bench(batches(URL), total_timeout=LONG)
    desk.take(event("a"))

    assert LONG - PATIENCE < desk.turn(under_way=1) <= LONG + 1


@pytest.mark.parametrize("status", [408, 429, 503])
def test_what_the_vendor_asked_for_holds_back_every_record(bench: MakeBench, status: int) -> None:
    desk = bench(singles(URL), retry_after_max=1000)
    desk.take(goal("a"))
    desk.turn(under_way=1)
    desk.answer(http(status, retry_after="500"))
    desk.take(goal("b"))

    assert 500 - PATIENCE < desk.turn(under_way=0) <= 500
    assert desk.counts == {"captured": 2, "pending": 2}


def test_what_the_vendor_asks_for_counts_even_when_the_outcome_is_unknown(bench: MakeBench) -> None:
    desk = bench(singles(URL), retry_after_max=1000)
    desk.take(goal("a"))
    desk.turn(under_way=1)
    desk.answer(http(500, retry_after="500"))
    desk.take(goal("b"))

    assert 500 - PATIENCE < desk.turn(under_way=0) <= 500
    assert desk.counts == {"captured": 2, "dead": 1, "pending": 1}


def test_a_failure_or_two_hold_back_only_their_own_records(bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessionsight.delivery.dispatcher._random", lambda: 0.9)
    desk = bench(batches(URL), backoff_base=LONG, backoff_max=LONG)
    desk.take(event("a"))
    assert desk.round(http(500)) == ["a"]
    desk.take(event("b"))

    assert desk.round(OK) == ["b"]
    assert desk.turn(under_way=0) > 0
    assert desk.counts == {"captured": 2, "delivered": 1, "pending": 1}


def test_an_open_circuit_holds_back_everything_and_then_probes_with_one_call(bench: MakeBench) -> None:
    desk = bench(singles(URL, idempotent=True), breaker_failures=8)
    desk.take(*(event(str(number)) for number in range(20)))
    desk.turn(under_way=8)
    for _ in range(8):
        desk.answer(http(500))

    for _ in range(5):
        desk.next_call()
        assert desk.dispatcher.state == "half-open"
        desk.turn(under_way=1)
        desk.answer(http(500))
    desk.round(OK)

    desk.turn(under_way=8)
    assert desk.dispatcher.state == "closed"
    assert desk.counts == {"captured": 20, "delivered": 1, "pending": 19}


def test_the_vendors_rate_limit_is_kept_before_it_has_to_say_so(bench: MakeBench) -> None:
    desk = bench(singles(URL, calls_per_minute=3))
    desk.take(*(goal(name) for name in "abcde"))
    assert desk.turn(under_way=3) > 0
    for _ in range(3):
        desk.answer(OK)

    assert 60 - PATIENCE < desk.turn(under_way=0) <= 60
    desk.dispatcher.schedule.flushing = True
    assert desk.turn(under_way=0) > 60 - PATIENCE, "not even a flush exceeds it"
    desk.dispatcher.resume()
    assert desk.turn(under_way=0) > 60 - PATIENCE, "nor does resume"
    assert desk.counts == {"captured": 5, "delivered": 3, "pending": 2}


def test_after_the_end_of_the_process_nothing_is_sent_any_more(bench: MakeBench) -> None:
    desk = bench(batches(URL))
    desk.take(event("a"))
    desk.dispatcher.deadline = time.monotonic() - 1

    desk.turn(under_way=0)

    assert desk.counts == {"captured": 1, "pending": 1}


def test_no_call_may_take_longer_than_the_process_lives(bench: MakeBench) -> None:
    desk = bench(batches(URL))
    desk.take(event("a"))
    desk.dispatcher.deadline = time.monotonic() + 3

    desk.turn(under_way=1)

    limits = desk.wire.flights[0].limits
    assert max(limits.connect, limits.read, limits.total) <= 3


# --- pauses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("refusal", [http(401), http(302), InvalidCall("LocalProtocolError")])
def test_a_pause_ends_all_sending_but_one_probe_at_a_time(bench: MakeBench, refusal: Result) -> None:
    desk = bench(singles(URL))
    desk.take(*(goal(str(number)) for number in range(20)))
    desk.turn(under_way=8)
    for _ in range(8):
        desk.answer(refusal)

    for _ in range(5):
        desk.next_call()
        assert desk.dispatcher.state == "paused"
        desk.turn(under_way=1)
        desk.answer(refusal)
    assert desk.counts == {"captured": 20, "pending": 20}
    desk.round(OK)

    desk.turn(under_way=8)
    assert desk.dispatcher.state == "closed"


def test_a_pause_lasts_as_long_as_was_set(bench: MakeBench) -> None:
    desk = bench(batches(URL, key="fixed"), pause_interval=LONG)
    desk.take(event("a"))
    desk.round(http(401))

    assert 0 < desk.turn(under_way=0) <= 1, "it looks for another key in between"
    assert LONG - PATIENCE < desk.dispatcher._gate.delay(time.monotonic(), 0) <= LONG


def test_probes_of_a_paused_lane_try_other_records_as_well(bench: MakeBench) -> None:
    desk = bench(singles(URL, concurrency=1))
    desk.take(*(goal(name) for name in "abcd"))

    tried = [desk.round(http(401))[0] for _ in range(7)]

    assert tried == ["a", "b", "a", "c", "b", "d", "a"]


def test_what_probes_take_from_the_queue_stays_little(bench: MakeBench) -> None:
    desk = bench(singles(URL, concurrency=1))
    desk.take(*(goal(str(number)) for number in range(100)))

    for _ in range(50):
        desk.round(http(401))

    assert desk.queue.depth()[0] > 90


@pytest.mark.parametrize("status", [401, 404])
def test_a_record_that_alone_is_refused_as_if_the_key_were_wrong_becomes_a_dead_letter(
    bench: MakeBench, status: int
) -> None:
    desk = bench(singles(URL, concurrency=1))
    desk.take(goal("bad"), *(goal(name) for name in "abcdefgh"))

    desk.finish(named("bad", http(status)))

    assert desk.counts == {"captured": 9, "delivered": 8, "dead": 1}
    assert deaths(desk.queue.dead_letters()) == {"bad": "refused"}


def test_a_batch_that_alone_is_refused_is_bisected(bench: MakeBench) -> None:
    desk = bench(batches(URL, max_records=4))
    desk.take(event("a"), event("bad"), event("b"), event("c"), *(event(name) for name in "defghijklmno"))

    desk.finish(named("bad", http(403)))

    assert desk.counts == {"captured": 16, "delivered": 15, "dead": 1}
    assert deaths(desk.queue.dead_letters()) == {"bad": "refused"}


def test_a_key_that_expires_again_and_again_costs_no_record(bench: MakeBench) -> None:
    desk = bench(batches(URL, max_records=2))
    desk.take(*(event(str(number)) for number in range(20)))
    results = itertools.cycle([http(401), OK, OK])

    desk.finish(lambda names: next(results))

    assert desk.counts == {"captured": 20, "delivered": 20}


def test_a_call_that_left_before_the_key_expired_puts_no_blame_on_the_next(bench: MakeBench) -> None:
    desk = bench(singles(URL, concurrency=2))
    desk.take(goal("late"), goal("refused"))
    desk.turn(under_way=2)
    late = [flight.labels for flight in desk.wire.flights].index(["late"])
    desk.answer(http(401), at=1 - late)
    desk.turn(under_way=1)
    desk.answer(OK)

    for _ in range(10):
        assert desk.round(http(401)) == ["refused"]

    desk.turn(under_way=0)
    assert desk.counts == {"captured": 2, "delivered": 1, "pending": 1}


def test_a_key_that_is_another_each_time_does_not_turn_a_pause_into_a_storm(bench: MakeBench) -> None:
    numbers = itertools.count()
    desk = bench(batches(URL, key=lambda: f"token-{next(numbers)}"), pause_interval=10.0)
    desk.take(event("a"))
    watch = desk.dispatcher._credentials
    looks: list[int] = []

    for _ in range(6):
        desk.round(http(401))
        desk.turn(under_way=0)
        looks.append(round(watch.next_check - time.monotonic()))
        watch.next_check = 0.0  # that time has passed

    assert looks == [1, 2, 4, 8, 10, 10]


def test_a_key_that_cannot_be_had_during_a_pause_is_no_new_key(bench: MakeBench) -> None:
    keys: list[Any] = ["old"]

    def key() -> str:
        if isinstance(keys[-1], Exception):
            raise keys[-1]
        return str(keys[-1])

    desk = bench(batches(URL, key=key), pause_interval=LONG)
    desk.take(event("a"))
    desk.round(http(401))
    for state in (RuntimeError("the vault is sealed"), "old"):
        keys.append(state)
        desk.turn(under_way=0)
        desk.dispatcher._credentials.next_check = 0.0  # that time has passed
        assert desk.turn(under_way=0) > 0

    keys.append("new")
    desk.dispatcher._credentials.next_check = 0.0
    desk.turn(under_way=1)
    assert desk.counts == {"captured": 1, "pending": 1}


def test_a_pause_is_logged_once_however_often_it_probes(
    bench: MakeBench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessionsight.log._INTERVAL", 0.0)  # as if a minute passed between any two lines
    desk = bench(batches(URL))
    desk.take(event("a"))
    for _ in range(5):
        desk.round(http(401))
    desk.finish()

    assert [record.levelname for record in caplog.records if record.levelno >= logging.WARNING] == ["ERROR"]
    assert "vendor: paused, because the vendor rejects our calls (HTTP 401); check key" in caplog.text


# --- poison ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", [http(500), OutcomeUnknown("reset"), NotSent("refused"), http(429)])
def test_a_record_on_which_the_vendor_fails_does_not_keep_others_from_being_tried(
    bench: MakeBench, result: Result
) -> None:
    desk = bench(batches(URL, max_records=1), breaker_failures=2)
    desk.take(event("poison"))
    for _ in range(3):
        assert desk.round(result) == ["poison"]
    desk.take(*(event(name) for name in "abc"))
    delivered: list[str] = []

    for _ in range(20):
        [name] = desk.next_call()
        desk.answer(result if name == "poison" else OK)
        delivered += [name] if name != "poison" else []
        if len(delivered) == 3:
            break

    assert delivered == ["a", "b", "c"]
    desk.dispatcher.run_once()
    assert desk.dispatcher.state == "closed"


# --- faults ---------------------------------------------------------------------------------------


class Faulty(Vendor):
    """Answers each reply with whatever it is told."""

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
def test_a_verdict_that_is_none_loses_no_record(
    bench: MakeBench, verdict: Any, caplog: pytest.LogCaptureFixture
) -> None:
    vendor = Faulty(URL, max_records=10)
    vendor.verdict = verdict
    desk = bench(vendor)
    desk.take(event("a"), event("b"))

    desk.finish()

    assert desk.counts == {"captured": 2, "dead": 2}
    assert deaths(desk.queue.dead_letters()) == {"a": "internal_error", "b": "internal_error"}
    assert "internal error in delivery" in caplog.text


def test_refused_positions_that_do_not_exist_are_passed_over(bench: MakeBench) -> None:
    vendor = Faulty(URL, max_records=10)
    vendor.verdict = Verdict(action=Action.DELIVERED, rejected={-1: "x", 1: "y", 2: "z", 99: "z"})
    desk = bench(vendor)
    desk.take(event("a"), event("b"))

    desk.finish()

    assert desk.counts == {"captured": 2, "delivered": 1, "dead": 1}
    assert deaths(desk.queue.dead_letters()) == {"b": "refused"}


def test_a_fault_in_one_outcome_does_not_lose_the_others(bench: MakeBench, caplog: pytest.LogCaptureFixture) -> None:
    class Once(Vendor):
        def classify(self, call: VendorRequest, reply: VendorResponse) -> Verdict:
            return Verdict(action=Action.DELIVERED) if reply.status == 200 else None  # type: ignore[return-value]

    desk = bench(Once(URL, max_records=1, concurrency=3))
    desk.take(*(event(name) for name in "abc"))
    desk.turn(under_way=3)
    for status in (299, 200, 299):
        desk.answer(http(status))

    desk.turn(under_way=0)

    assert desk.counts == {"captured": 3, "delivered": 1, "dead": 2}


def test_an_interrupt_in_the_midst_of_it_goes_through_and_loses_no_record(bench: MakeBench) -> None:
    class Interrupted(Vendor):
        def classify(self, call: VendorRequest, reply: VendorResponse) -> Verdict:
            raise KeyboardInterrupt

    desk = bench(Interrupted(URL))
    desk.take(event("a"))
    desk.round(OK)

    with pytest.raises(KeyboardInterrupt):
        desk.dispatcher.run_once()

    assert desk.counts == {"captured": 1, "dead": 1}


def test_a_launch_that_fails_loses_no_record(bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = bench(batches(URL))
    desk.take(event("a"))

    def submit(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(desk.senders, "submit", submit)
    desk.dispatcher.run_once()

    assert desk.counts == {"captured": 1, "dead": 1}
    assert deaths(desk.queue.dead_letters()) == {"a": "internal_error"}


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
def test_whatever_comes_back_in_whatever_order_each_record_is_settled_once(
    *,
    vendor: Callable[..., Vendor],
    concurrency: int,
    max_records: int,
    steps: list[tuple[int, Result, int]],
    **options: int,
) -> None:
    desk = Bench(
        vendor(URL, concurrency=concurrency, max_records=max_records),
        pause_interval=0.001,
        backoff_max=0.001,
        **options,
    )
    try:
        for number, result, at in steps:
            desk.take(*(event(str(number)) for number in range(number)))
            desk.dispatcher.run_once()
            assert desk.senders.in_flight <= concurrency
            desk.wire.wait_for(desk.senders.in_flight)
            if desk.wire.flights:
                desk.answer(result, at=at % len(desk.wire.flights))
            assert desk.queue.snapshot("closed").balanced
        while desk.wire.flights:
            desk.answer(OK)

        desk.finish()

        assert desk.counts.get("captured", 0) == sum(number for number, _, _ in steps)
        assert not desk.dispatcher._in_flight
        assert not desk.dispatcher.schedule._retries
        assert not desk.dispatcher.schedule._parts
    finally:
        while desk.wire.flights:
            desk.answer(OK)
        desk.senders.stop()


# --- what a durable spool is told -----------------------------------------------------------------


class Marks(MemoryQueue):
    """A queue that records which entries are marked as in flight, or cannot."""

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

    def clear_in_flight(self, entries: Sequence[QueuedRecord]) -> None:
        self.marked.difference_update(labels(entries))


def marking(vendor: Vendor, **options: Any) -> tuple[Bench, Marks]:
    marks = Marks(**options)
    return Bench(vendor, marks, **options), marks


def test_a_goal_is_marked_before_it_goes_on_the_wire() -> None:
    bench, marks = marking(singles(URL))
    bench.take(goal("G"))

    bench.turn(under_way=1)

    assert marks.marked == {"G"}
    bench.answer(OK)
    bench.turn(under_way=0)


@pytest.mark.parametrize("result", [http(503, retry_after="1"), http(401), http(400), NotSent("no route")], ids=str)
def test_a_goal_that_certainly_has_not_arrived_is_marked_no_more(result: Result) -> None:
    bench, marks = marking(singles(URL), backoff_base=LONG, retry_after_max=LONG, pause_interval=LONG)
    bench.take(goal("G"))

    bench.round(result)
    bench.turn(under_way=0)

    assert marks.marked == set()


def test_a_goal_that_may_have_arrived_stays_marked_until_it_is_parked() -> None:
    bench, marks = marking(singles(URL))
    bench.take(goal("G"))

    bench.round(OutcomeUnknown("reset"))
    bench.turn(under_way=0)

    assert marks.marked == {"G"}
    assert deaths(marks.dead_letters()) == {"G": "unknown"}


def test_a_goal_that_cannot_be_marked_waits() -> None:
    bench, marks = marking(singles(URL))
    marks.writable = False
    bench.take(goal("G"))
    bench.turn(under_way=0)
    assert bench.queue.pending == 1

    marks.writable = True

    assert bench.finish() == [["G"]]


@pytest.mark.parametrize(
    ("vendor", "record"), [(batches(URL), event("a")), (singles(URL), goal("a"))], ids=["event", "goal"]
)
def test_what_was_given_back_while_its_call_was_prepared_is_not_sent(vendor: Vendor, record: QueuedRecord) -> None:
    bench, marks = marking(vendor)
    marks.given_back = {"a"}
    bench.take(record)

    bench.turn(under_way=0)

    assert marks.marked == set()
    assert not bench.dispatcher.schedule._parts
    assert not bench.dispatcher.schedule._retries


def test_the_rest_of_a_call_is_sent_without_what_was_given_back() -> None:
    bench, marks = marking(batches(URL))
    marks.given_back = {"b"}
    bench.take(event("a"), event("b"), event("c"))

    bench.turn(under_way=1)

    assert bench.answer(OK) == ["a", "c"]
    bench.turn(under_way=0)


def test_nothing_is_sent_once_the_queue_is_closed() -> None:
    """What was in hand is counted as lost by then."""
    bench = Bench(singles(URL), backoff_base=0.0)
    bench.take(goal("G"))
    bench.round(http(503))
    assert bench.queue.close() == 1

    bench.turn(under_way=0)

    assert tally(bench.queue.snapshot("closed")) == {"captured": 1, "shutdown": 1}


@pytest.mark.parametrize(
    ("vendor", "options"), [(batches(URL), {}), (singles(URL), {"goals_on_unknown": "retry"})], ids=["events", "retry"]
)
def test_what_may_be_sent_twice_needs_no_mark(vendor: Vendor, options: dict[str, Any]) -> None:
    bench, marks = marking(vendor, **options)
    bench.take(event("a"))

    bench.turn(under_way=1)

    assert marks.marked == set()
    bench.answer(OK)
    bench.turn(under_way=0)
