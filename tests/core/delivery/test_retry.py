from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sessionsight.delivery.retry import SendGate, backoff, parse_retry_after

NOW = 1_767_225_600.0  # 2026-01-01


# --- backoff --------------------------------------------------------------------------------------


def test_a_delay_is_random_below_a_doubling_ceiling() -> None:
    ceilings = [backoff(attempt, base=0.5, limit=60, random=lambda: 1.0) for attempt in range(1, 10)]

    assert ceilings == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff(4, base=0.5, limit=60, random=lambda: 0.25) == 1.0
    assert backoff(4, base=0.5, limit=60, random=lambda: 0.0) == 0.0


@given(
    attempt=st.integers(1, 10**12),
    base=st.floats(0, 1e6),
    limit=st.floats(0.001, 1e6),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_a_delay_is_between_zero_and_the_limit_for_any_number_of_attempts(
    attempt: int, base: float, limit: float, chance: float
) -> None:
    assert 0 <= backoff(attempt, base=base, limit=limit, random=lambda: chance) <= limit


# --- Retry-After ----------------------------------------------------------------------------------


def after(header: str | None, *, limit: float = 300) -> float | None:
    return parse_retry_after(header, now=NOW, limit=limit)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 120 ", 120),
        ("007", 7),
        ("301", 300),
        ("9" * 5000, 300),
        ("0" * 20 + "5", 5),
        (format_datetime(datetime.fromtimestamp(NOW + 90, UTC), usegmt=True), 90),
        (format_datetime(datetime.fromtimestamp(NOW + 90, timezone(timedelta(hours=-5)))), 90),
        ("Thu, 01 Jan 2026 00:01:30", 90),
        ("Thursday, 01-Jan-26 00:01:30 GMT", 90),
        ("Thu, 01 Jan 2026 00:59:00 GMT", 300),
        ("Wed, 31 Dec 2025 23:00:00 GMT", 0),
        (None, None),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("Thu, 99 Foo 2026 99:99:99 GMT", None),
        ("Thu, 01 Jan 99999 00:00:00 GMT", None),
        ("Thu, 01 Jan 2026 00:01:30 +9999", None),
    ],
)
def test_retry_after_is_parsed_as_seconds_or_a_date_and_clamped(header: str | None, seconds: float | None) -> None:
    assert after(header) == seconds


@given(
    st.text(max_size=60)
    | st.from_regex(r"\A\w{0,4},? ?\d{0,9}[- ]\w{0,4}[- ]\d{0,9} \d{0,9}:?\d{0,9}:?\d{0,9} ?[-+]?\w{0,9}\Z")
)
def test_any_header_is_parsed_without_an_exception(header: str) -> None:
    seconds = after(header)

    assert seconds is None or 0 <= seconds <= 300


# --- the gate -------------------------------------------------------------------------------------


def gate(
    *, concurrency: int = 1, per_minute: int | None = None, failures: int = 3, delay: float = 10, pause: float = 60
) -> SendGate:
    return SendGate(
        concurrency=concurrency,
        calls_per_minute=per_minute,
        failures_to_open=failures,
        delay_after=lambda count: delay * count,
        pause_interval=pause,
    )


def test_a_new_gate_allows_as_many_calls_as_the_concurrency() -> None:
    fresh = gate(concurrency=3)

    assert fresh.state(0) == "closed"
    assert [fresh.delay(0, in_flight) for in_flight in range(5)] == [0, 0, 0, math.inf, math.inf]


def test_a_few_failures_do_not_delay_other_calls() -> None:
    few = gate(concurrency=3)
    few.record_failure(0)
    few.record_failure(0)

    assert few.state(0) == "closed"
    assert few.delay(0, 2) == 0


def test_consecutive_failures_open_the_circuit_which_then_allows_one_probe_at_a_time() -> None:
    broken = gate(concurrency=3)
    for _ in range(3):
        broken.record_failure(100)

    assert broken.state(100) == "open"
    assert broken.delay(100, 0) == 30
    assert broken.delay(129, 0) == 1
    assert broken.state(130) == "half-open"
    assert broken.delay(130, 0) == 0
    assert broken.delay(130, 1) == math.inf


def test_a_failed_probe_opens_the_circuit_for_longer_and_a_successful_one_closes_it() -> None:
    broken = gate(concurrency=3)
    for _ in range(3):
        broken.record_failure(100)
    broken.record_failure(130)
    assert broken.delay(130, 0) == 40

    broken.record_success()

    assert broken.state(130) == "closed"
    assert broken.delay(130, 2) == 0


def test_a_success_resets_the_failure_count() -> None:
    lucky = gate()
    for _ in range(10):
        lucky.record_failure(0)
        lucky.record_failure(0)
        lucky.record_success()

    assert lucky.state(0) == "closed"


def test_retry_after_applies_to_all_calls_and_outlasts_a_success() -> None:
    asked = gate(concurrency=3)
    asked.record_failure(0, retry_after=20)
    asked.record_failure(1, retry_after=5)
    assert asked.delay(1, 0) == 19

    asked.record_success()

    assert asked.delay(1, 0) == 19
    assert asked.delay(20, 2) == 0


def test_a_retry_after_of_zero_does_not_cause_calls_without_a_break() -> None:
    hasty = gate()
    for _ in range(3):
        hasty.record_failure(0, retry_after=0)

    assert hasty.delay(0, 0) == 30


def test_a_pause_allows_one_probe_per_interval() -> None:
    wrong = gate(concurrency=3)
    wrong.pause(0)
    assert wrong.state(0) == "paused"
    assert wrong.delay(0, 0) == 60
    assert wrong.delay(60, 0) == 0
    assert wrong.delay(60, 1) == math.inf

    wrong.pause(60)

    assert wrong.delay(60, 0) == 60


def test_a_call_that_fails_during_a_pause_does_not_end_it() -> None:
    wrong = gate(concurrency=3)
    wrong.pause(0)

    wrong.record_failure(1)
    assert wrong.state(1) == "paused"
    assert wrong.delay(1, 0) == 59

    wrong.record_failure(60)  # the probe
    assert wrong.delay(60, 0) == 20


def test_a_call_that_succeeds_ends_a_pause() -> None:
    wrong = gate(concurrency=3)
    wrong.pause(0)

    wrong.record_success()

    assert wrong.state(0) == "closed"
    assert wrong.delay(0, 2) == 0


def test_resuming_resets_the_pause_and_failures_but_not_the_rate_limit() -> None:
    wrong = gate(per_minute=2)
    for now in (0, 1):
        wrong.record_call(now)
        wrong.record_failure(now, retry_after=100)
    wrong.record_failure(1)
    wrong.pause(1)

    wrong.resume()

    assert wrong.state(1) == "closed"
    assert wrong.delay(1, 0) == 59


def test_a_rate_limit_applies_to_a_sliding_minute() -> None:
    limited = gate(concurrency=9, per_minute=3)
    for now in (50, 55, 59):
        assert limited.delay(now, 0) == 0
        limited.record_call(now)

    assert limited.delay(61, 0) == 49
    assert limited.delay(110, 0) == 0


class GateMachine(RuleBasedStateMachine):
    """A lane and its vendor on a simulated clock, which check the gate against a model."""

    now = 0.0
    in_flight = 0
    failures = 0
    paused = False

    @initialize(concurrency=st.integers(1, 4), per_minute=st.none() | st.integers(1, 5), failures=st.integers(1, 4))
    def begin(self, concurrency: int, per_minute: int | None, failures: int) -> None:
        self.concurrency, self.per_minute, self.to_open = concurrency, per_minute, failures
        self.gate = gate(concurrency=concurrency, per_minute=per_minute, failures=failures, delay=7, pause=60)
        self.sent: list[float] = []
        self.not_before = -math.inf  # from Retry-After
        self.probe_at = -math.inf

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 7.0, 30.0, 60.0, 600.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def wait_as_told(self) -> None:
        delay = self.gate.delay(self.now, self.in_flight)
        if delay < math.inf:
            self.now += delay
            assert self.gate.delay(self.now, self.in_flight) == pytest.approx(0, abs=1e-9)

    @rule()
    def send_if_allowed(self) -> None:
        if self.gate.delay(self.now, self.in_flight) > 0:
            return
        assert self.now >= self.not_before
        if self.probing:
            assert self.in_flight == 0
            assert self.now >= self.probe_at
        self.gate.record_call(self.now)
        self.sent.append(self.now)
        self.in_flight += 1

    @precondition(lambda self: self.in_flight)
    @rule()
    def come_back_well(self) -> None:
        self.gate.record_success()
        self.in_flight -= 1
        self.failures, self.paused = 0, False

    @precondition(lambda self: self.in_flight)
    @rule(retry_after=st.sampled_from([None, 0.0, 3.0, 90.0]))
    def fail(self, retry_after: float | None) -> None:
        self.gate.record_failure(self.now, retry_after=retry_after)
        self.in_flight -= 1
        self.failures += 1
        if retry_after:
            self.not_before = max(self.not_before, self.now + retry_after)
        elif self.probing:
            self.probe_at = max(self.probe_at, self.now + 7 * self.failures)

    @precondition(lambda self: self.in_flight)
    @rule()
    def be_rejected(self) -> None:
        self.gate.pause(self.now)
        self.in_flight -= 1
        self.paused = True
        self.probe_at = self.now + 60

    @rule()
    def resume(self) -> None:
        self.gate.resume()
        self.failures, self.paused = 0, False
        self.not_before = self.probe_at = -math.inf

    @property
    def probing(self) -> bool:
        return self.paused or self.failures >= self.to_open

    @invariant()
    def as_many_in_flight_as_agreed(self) -> None:
        assert self.in_flight <= self.concurrency

    @invariant()
    def the_rate_is_kept_in_every_window_of_a_minute(self) -> None:
        if self.per_minute is not None:
            for first, beyond in zip(self.sent, self.sent[self.per_minute :], strict=False):
                assert beyond - first >= 60

    @invariant()
    def the_state_says_what_is_going_on(self) -> None:
        state = self.gate.state(self.now)
        assert (state == "paused") is self.paused
        if not self.paused:
            assert (state == "closed") is not self.probing
        if state == "half-open" and not self.in_flight and self.per_minute is None:
            assert self.gate.delay(self.now, 0) == 0

    @invariant()
    def there_is_always_a_way_on(self) -> None:
        assert self.gate.delay(self.now, 0) < math.inf


TestGate = GateMachine.TestCase
