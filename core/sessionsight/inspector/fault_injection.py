"""Fault injection, to test an app against a vendor that fails, is slow, or limits its requests.

Faults have the same format as on the command line: `500:0.3` (three of ten requests fail with 500), `200` or
`200-800` (milliseconds), `10/s` or `100/m`. The clock and the random numbers are passed in.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Callable, Mapping

from msgspec import Struct

from sessionsight.errors import ConfigurationError

__all__ = ["FAIL", "LATENCY", "NO_FAULT", "RATE_LIMIT", "Faults", "FaultsError", "InjectedFault", "Injector"]

_MS = "([0-9]{1,4}|[1-5][0-9]{4})"  # less than a minute
FAIL = r"^[45][0-9]{2}(:(0(\.[0-9]{1,6})?|1(\.0{1,6})?))?$"
LATENCY = rf"^{_MS}(-{_MS})?$"
RATE_LIMIT = r"^[1-9][0-9]{0,5}/[smh]$"
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


class FaultsError(ConfigurationError):
    """A fault has an invalid format."""


class Faults(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Faults to inject; none by default."""

    fail: str | None = None
    """Status from 400 to 599, and the fraction of requests that get it, by default all: `503:0.5`."""
    latency: str | None = None
    """Milliseconds before each response, less than a minute, or a range of them: `200-800`."""
    rate_limit: str | None = None
    """Requests per second, minute or hour for each vendor; more of them get a 429: `10/s`."""

    def validated(self) -> Faults:
        """Return the faults with empty texts as None.

        Raises:
            FaultsError: A fault has an invalid format.
        """
        known = Faults(fail=self.fail or None, latency=self.latency or None, rate_limit=self.rate_limit or None)
        _read("fail", known.fail, FAIL, "500:0.3")
        _read("latency", known.latency, LATENCY, "200 or 200-800")
        _read("rate_limit", known.rate_limit, RATE_LIMIT, "10/s")
        return known

    @property
    def latency_range(self) -> tuple[int, int]:
        """Shortest and longest delay in milliseconds."""
        low, _, high = (self.latency or "0").partition("-")
        ends = sorted((int(low), int(high or low)))
        return ends[0], ends[1]

    @property
    def failure(self) -> tuple[int, float] | None:
        """Status, and the fraction of requests that get it."""
        if self.fail is None:
            return None
        status, _, part = self.fail.partition(":")
        return int(status), float(part or 1)

    @property
    def rate(self) -> tuple[int, float] | None:
        """Number of requests, and the number of seconds."""
        if self.rate_limit is None:
            return None
        calls, _, unit = self.rate_limit.partition("/")
        return int(calls), _SECONDS[unit]


class InjectedFault(Struct, frozen=True):
    """Fault for one request."""

    delay: float = 0.0
    """Seconds."""
    status: int | None = None
    """Status of the response that replaces the vendor's; None for no replacement."""
    reason: str | None = None
    headers: Mapping[str, str] = {}


NO_FAULT = InjectedFault()


class Injector:
    """Selects the fault of each request by the current faults."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self._answered: defaultdict[str, deque[float]] = defaultdict(deque)

    def decide(self, caller: str, *, now: float, chance: Callable[[], float]) -> InjectedFault:
        """Return the fault for one request.

        Args:
            caller: Key by which the rate limit counts requests.
            now: Seconds of a monotonic clock.
            chance: Returns a random number from 0 to below 1.
        """
        low, high = self.faults.latency_range
        delay = (low + (high - low) * chance()) / 1000 if high else 0.0
        if (rate := self.faults.rate) is not None and not self._is_within_rate(caller, *rate, now=now):
            wait = max(1, round(rate[1] - (now - self._answered[caller][0])))
            return InjectedFault(delay, 429, f"rate limit {self.faults.rate_limit}", {"Retry-After": str(wait)})
        if (failure := self.faults.failure) is not None and chance() < failure[1]:
            return InjectedFault(delay, failure[0], f"fail {self.faults.fail}")
        return InjectedFault(delay) if delay else NO_FAULT

    def _is_within_rate(self, caller: str, calls: int, seconds: float, *, now: float) -> bool:
        answered = self._answered[caller]
        while answered and answered[0] <= now - seconds:
            answered.popleft()
        if len(answered) >= calls:
            return False
        answered.append(now)
        return True


def _read(name: str, text: str | None, pattern: str, example: str) -> None:
    if text is not None and not re.fullmatch(pattern, text):
        raise FaultsError(f"{name}: must be written as {example}, not {text!r}")
