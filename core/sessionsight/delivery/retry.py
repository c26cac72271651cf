"""Decides when a lane may send: backoff, Retry-After, rate limit, circuit breaker and pause.

Pure: the clock and the random numbers are arguments. Times are seconds of a monotonic clock, except in
`parse_retry_after`, which compares with the wall clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import UTC
from typing import Literal

from sessionsight.late_import import late_import

__all__ = ["SendGate", "backoff", "parse_retry_after"]

State = Literal["closed", "open", "half-open", "paused"]


def backoff(attempt: int, *, base: float, limit: float, random: Callable[[], float]) -> float:
    """Return a delay before the next attempt: full jitter under a doubling ceiling.

    Args:
        attempt: How many attempts have failed; 1 after the first.
        base: The first ceiling.
        limit: The highest ceiling.
        random: Returns numbers from 0 up to 1.

    Example:
        >>> backoff(3, base=0.5, limit=60, random=lambda: 0.5)
        1.0
    """
    # 2.0 ** 1024 overflows, and no ceiling is that high.
    return random() * min(limit, base * 2.0 ** min(attempt - 1, 60))


def parse_retry_after(header: str | None, *, now: float, limit: float) -> float | None:
    """Parse a `Retry-After` header into seconds from now; None if it is not valid.

    Args:
        header: Seconds or an HTTP date (RFC 9110, section 10.2.3).
        now: The wall clock, in Unix seconds.
        limit: The longest delay that is obeyed.

    Example:
        >>> parse_retry_after("120", now=0, limit=300)
        120.0
    """
    if header is None:
        return None
    header = header.strip()
    if header.isascii() and header.isdigit():
        return min(float(header), limit)
    with late_import():
        from email.utils import parsedate_to_datetime  # slow to import, and seldom needed
    try:
        date = parsedate_to_datetime(header)
        seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), limit)


class SendGate:
    """Circuit breaker and rate limiter that decide when a lane may send its next call.

    A few failures only delay the call that failed. After `failures_to_open` in a row the circuit opens: nothing is
    sent until a delay has passed, and then one call at a time, as a probe, until one succeeds. A pause is the same
    with a fixed interval; its cause is a wrong key or address.
    """

    def __init__(
        self,
        *,
        concurrency: int,
        calls_per_minute: int | None,
        failures_to_open: int,
        delay_after: Callable[[int], float],
        pause_interval: float,
    ) -> None:
        self._concurrency = concurrency
        self._recent: deque[float] | None = deque(maxlen=calls_per_minute) if calls_per_minute else None
        self._failures_to_open = failures_to_open
        self._delay_after = delay_after
        self._pause_interval = pause_interval
        self._failures = 0
        self._paused = False
        self._not_before = float("-inf")  # from the last Retry-After
        self._probe_at = float("-inf")  # counts while failing or paused

    def state(self, now: float) -> State:
        """Return the state, for statistics."""
        if self._paused:
            return "paused"
        if self._failures < self._failures_to_open:
            return "closed"
        return "open" if now < max(self._not_before, self._probe_at) else "half-open"

    def delay(self, now: float, in_flight: int) -> float:
        """Return the seconds until the next call may be sent; 0 means now, infinity when a call has completed."""
        if in_flight >= (1 if self._probing else self._concurrency):
            return float("inf")
        wait = max(self._not_before - now, 0.0)
        if self._probing:
            wait = max(wait, self._probe_at - now)
        recent = self._recent
        if recent is not None and len(recent) == recent.maxlen:
            wait = max(wait, recent[0] + 60.0 - now)
        return wait

    def record_call(self, now: float) -> None:
        """Count a call for the rate limit."""
        if self._recent is not None:
            self._recent.append(now)

    def record_success(self) -> None:
        """Close the circuit and end a pause. A `Retry-After` remains in force."""
        self._failures = 0
        self._paused = False

    def record_failure(self, now: float, *, retry_after: float | None = None) -> None:
        """Count a failure that may be temporary.

        Args:
            now: The clock.
            retry_after: Seconds from the vendor's `Retry-After`. Zero counts as none: a vendor that is down could
                otherwise make us call without a break.
        """
        self._failures += 1
        if retry_after:
            self._not_before = max(self._not_before, now + retry_after)
        elif self._probing:
            self._probe_at = max(self._probe_at, now + self._delay_after(self._failures))

    def pause(self, now: float) -> None:
        """Pause, because a call was rejected for its key or address."""
        self._paused = True
        self._probe_at = now + self._pause_interval

    def resume(self) -> None:
        """Forget all failures, and send at once."""
        self._failures = 0
        self._paused = False
        self._not_before = self._probe_at = float("-inf")

    @property
    def _probing(self) -> bool:
        return self._paused or self._failures >= self._failures_to_open
