"""Goals: `analytics.goals.increment` and `decrement`, as in SessionSight's own SDK."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sessionsight.records import Amount

if TYPE_CHECKING:
    from sessionsight.analytics import Analytics

__all__ = ["Goals"]


class Goals:
    """The goals of one request; `request.analytics.goals`."""

    __slots__ = ("_analytics",)

    def __init__(self, analytics: Analytics) -> None:
        self._analytics = analytics

    def __reduce__(self) -> tuple[Any, ...]:
        return Goals, (self._analytics,)

    def increment(
        self,
        goal_id: str,
        amount: Amount | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        session_id: str | None = None,
        key: str | None = None,
        destinations: Iterable[str] | None = None,
        on_commit: bool | None = None,
        using: str | None = None,
    ) -> None:
        """Count a step towards a goal.

        Args:
            goal_id: The goal's slug; it must exist in SessionSight's dashboard.
            amount: Above zero; 1 by default. For a revenue goal: dollars, not cents.
            metadata: Up to 5 short strings. Values that look like credentials, card or phone
                numbers, addresses and the like are dropped before they leave, as the vendor's SDK does.
            session_id: In place of the request's `ss_sid`.
            key: An idempotency key: a second call with the same goal and key is not counted.
            destinations: Names of the destinations to go to; all that take goals by default.
            on_commit: With Django: False counts it whatever becomes of the database transaction.
            using: With Django: the alias of the database whose transaction it waits for.

        Raises:
            InvalidGoalError: In strict mode, when an argument is wrong. Otherwise that is logged.

        Example:
            >>> request.analytics.goals.increment("monthly-revenue", amount=49)  # doctest: +SKIP
        """
        self._analytics._goal(
            "increment",
            goal_id,
            amount,
            metadata=metadata,
            session_id=session_id,
            key=key,
            destinations=destinations,
            options={"on_commit": on_commit, "using": using},
        )

    def decrement(
        self,
        goal_id: str,
        amount: Amount | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        session_id: str | None = None,
        key: str | None = None,
        destinations: Iterable[str] | None = None,
        on_commit: bool | None = None,
        using: str | None = None,
    ) -> None:
        """Count a step away from a goal, such as a refund; the amount is above zero here too.

        The arguments and errors are those of `increment`.
        """
        self._analytics._goal(
            "decrement",
            goal_id,
            amount,
            metadata=metadata,
            session_id=session_id,
            key=key,
            destinations=destinations,
            options={"on_commit": on_commit, "using": using},
        )
