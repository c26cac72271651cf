"""Goals: `analytics.goals.increment` and `decrement`, as in SessionSight's own SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sessionsight.capture import signatures

if TYPE_CHECKING:
    from sessionsight.capture.analytics import Analytics

__all__ = ["Goals"]


class Goals:
    """The goals of one request; `request.analytics.goals`."""

    __slots__ = ("_analytics",)

    def __init__(self, analytics: Analytics) -> None:
        self._analytics = analytics

    def __reduce__(self) -> tuple[Any, ...]:
        return Goals, (self._analytics,)

    @signatures.increment.implements
    def increment(self, /, *given: Any, **options: Any) -> None:
        self._analytics._goal("increment", given, options)

    @signatures.decrement.implements
    def decrement(self, /, *given: Any, **options: Any) -> None:
        self._analytics._goal("decrement", given, options)
