"""Receipts: the results of capturing calls."""

from __future__ import annotations

from msgspec import Struct

from sessionsight.capture.records import Record, record_id

__all__ = ["Receipt"]


class Receipt(Struct, frozen=True, eq=False, gc=False):
    """The result of a capturing call. It is true if the record was accepted.

    It says what is known when the call returns, and never changes. Accepted means that the call is valid and that no
    refusal is known. The cookies and headers of a middleware's request are read later, so a refusal that they contain
    is not known yet. A refusal is known from `for_request`, and from a carrier that was passed to `bind` or `scope`.
    Also later than the receipt: `choose_destinations`, `discard()`, a rollback, a repeated `key`, a destination that
    lacks an id it needs, and delivery. `client.stats()` counts the outcomes, and `client.status(receipt)` returns what
    is known of one.

    Example:
        >>> from sessionsight import Client, Settings
        >>> client = Client(Settings(destinations=()))
        >>> bool(client.analytics.goals.increment("signups")), client.analytics.capture("").reason
        (True, "an event's name must be a string that is not blank, not ''")
    """

    _record: Record | None
    reason: str | None = None
    """Why the record was refused: `consent` or `excluded`, or the error of a wrong call; None if it was accepted."""

    @property
    def id(self) -> str:
        """The record's id, which vendors that take one receive as idempotency key; empty for a wrong call.

        With a `key` it is derived from that, so that repeated calls have the same id.
        """
        return "" if self._record is None else record_id(self._record)

    @property
    def accepted(self) -> bool:
        """True if the call was valid, and no refusal was known."""
        return self.reason is None

    def __bool__(self) -> bool:
        return self.reason is None

    def __repr__(self) -> str:
        """Return the public fields; the record contains personal data."""
        return f"Receipt(id={self.id!r}, accepted={self.accepted}, reason={self.reason!r})"
