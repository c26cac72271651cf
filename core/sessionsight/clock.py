"""The clock that delivery is given, so that a test can advance it."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Clock"]


class Clock(Protocol):
    """A source of time and of pauses. The module `time` is one."""

    def monotonic(self) -> float:
        """Return the seconds of a clock that never goes backwards."""

    def time(self) -> float:
        """Return the seconds since 1970."""

    def sleep(self, seconds: float, /) -> None:
        """Wait."""
