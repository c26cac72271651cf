"""Clocks that a test advances."""

from __future__ import annotations

import time


class FrozenClock:
    """A clock that advances only by `sleep`, which returns at once.

    Attributes:
        now: The monotonic clock.
        pauses: The arguments of `sleep`.
    """

    EPOCH = 1_767_225_600.0

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.EPOCH + self.now

    def sleep(self, seconds: float, /) -> None:
        self.now += seconds
        self.pauses.append(seconds)


class RunningClock:
    """The real clock, and the time that a test adds to it.

    Attributes:
        skips_pauses: Advance instead of sleeping.
    """

    def __init__(self) -> None:
        self._added = 0.0
        self.skips_pauses = False

    def monotonic(self) -> float:
        return time.monotonic() + self._added

    def time(self) -> float:
        return time.time() + self._added

    def sleep(self, seconds: float, /) -> None:
        if self.skips_pauses:
            self.advance(seconds)
        else:
            time.sleep(seconds)

    def advance(self, seconds: float) -> None:
        self._added += seconds
