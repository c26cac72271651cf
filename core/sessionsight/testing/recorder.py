"""Records captured records in memory, for assertions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from sessionsight.capture.interfaces import FlagValue
from sessionsight.capture.records import Amount, DropReason, Record
from sessionsight.capture.typed_events import Event
from sessionsight.destinations.base import Destination
from sessionsight.errors import describe, did_you_mean
from sessionsight.request.context import TrackingContext
from sessionsight.test_mode import test_mode
from sessionsight.testing.captured import CapturedRecord
from sessionsight.testing.expectation import Expectation, format_records
from sessionsight.testing.lanes import SeenKeys, lanes_of, skipping

__all__ = ["Recorder", "allow_delivery", "lenient", "record", "suppress_delivery"]


class Recorder:
    """Records that all clients of the process have submitted, in order. Created by `record` or pytest's `analytics`.

    A request submits its records when its response has ended, which test clients wait for; code outside requests does
    so immediately.

    Values are compared as they would be sent: a UUID as a string, a Decimal as a number. `unittest.mock.ANY` matches
    anything. A failing assertion shows the expectation and the closest record.

    Example:
        >>> from sessionsight import Client, Settings
        >>> client = Client(Settings(disabled=True))
        >>> with record() as analytics:
        ...     _ = client.analytics.capture("order_processed", {"order_id": "ord_1", "amount": 49}, user_id="user_1")
        >>> event = analytics.assert_captured("order_processed", order_id="ord_1")
        >>> event.user_id, event.properties["amount"]
        ('user_1', 49)
    """

    def __init__(self) -> None:
        self.flags: dict[str, FlagValue] = {}
        """Feature flags of all visitors, for instance `analytics.flags["new-checkout"] = True`. All others have the
        default of the call."""
        self._captured: list[CapturedRecord] = []
        self._keys = SeenKeys()

    def __repr__(self) -> str:
        """Show the number of records of each kind."""
        return f"<Recorder: {len(self.events)} events, {len(self.identifies)} identifies, {len(self.goals)} goals>"

    def submit(
        self,
        context: TrackingContext,
        records: Sequence[Record],
        drop: DropReason | None,
        destinations: Sequence[Destination] = (),
    ) -> None:
        """Receive the records of one request. Called by clients; see `sessionsight.test_mode.RecordSink`."""
        for record in records:
            lanes = lanes_of(record, destinations)
            reason = drop or (DropReason.DUPLICATE if self._keys.is_repeated(record, lanes) else None)
            skipped = {} if reason else skipping(record, context, lanes)
            self._captured.append(CapturedRecord.of(record, context, reason, skipped))

    # --- captured records ---------------------------------------------------------------------------

    @property
    def captured(self) -> list[CapturedRecord]:
        """Everything that would be sent, oldest first."""
        test_mode.sync()
        return [one for one in self._captured if one.dropped is None]

    @property
    def events(self) -> list[CapturedRecord]:
        """Captured events."""
        return self._of_kind("event")

    @property
    def identifies(self) -> list[CapturedRecord]:
        """Captured identifications."""
        return self._of_kind("identify")

    @property
    def goals(self) -> list[CapturedRecord]:
        """Captured goals, incremented and decremented."""
        return self._of_kind("goal")

    @property
    def feedback(self) -> list[CapturedRecord]:
        """Submitted feedback: `name` is its type, `properties` has `option`, `message` and `metadata`."""
        return self._of_kind("feedback")

    @property
    def dropped(self) -> list[CapturedRecord]:
        """Records that would not be sent to any vendor; `CapturedRecord.dropped` has the reason.

        Reasons: `consent`, `excluded`, `discarded`, `rolled_back`, `choose_destinations_error`, and `duplicate`, the
        second record of a kind and name with the same `key=`.
        """
        test_mode.sync()
        return [one for one in self._captured if one.dropped is not None]

    def clear(self) -> None:
        """Remove all records captured so far, but not their keys: a repeated `key=` is still a duplicate."""
        test_mode.sync()
        self._captured.clear()

    # --- assertions --------------------------------------------------------------------

    def assert_captured(
        self, event: str | Event, properties: Mapping[str, Any] | None = None, /, **more: Any
    ) -> CapturedRecord:
        """Assert that an event was captured, with at least these properties.

        Args:
            event: Its name, or a typed event with the properties it should have.
            properties: Properties whose names are not Python identifiers.
            **more: Properties.

        Returns:
            The first matching event.

        Raises:
            AssertionError: There is no match. The message shows the closest event.

        Example:
            >>> analytics.assert_captured("order_processed", order_id="ord_1")  # doctest: +SKIP
        """
        __tracebackhide__ = True
        return self._assert_one(_wanted_event(event, properties, more))

    def assert_not_captured(
        self, event: str | Event, properties: Mapping[str, Any] | None = None, /, **more: Any
    ) -> None:
        """Assert that no matching event was captured; the arguments are those of `assert_captured`.

        Raises:
            AssertionError: There is a match.
        """
        __tracebackhide__ = True
        wanted = _wanted_event(event, properties, more)
        found = [one for one in self.captured if one.kind == "event" and wanted.matched_by(one)]
        if found:
            raise AssertionError("\n".join([f"{wanted} was captured", *format_records("captured:", found)]))

    def assert_identified(self, user_id: object = None, /, **traits: Any) -> CapturedRecord:
        """Assert that this user was identified, with at least these traits.

        Args:
            user_id: The app's own user id; any by default.
            **traits: The expected traits.

        Returns:
            The first matching identification.

        Raises:
            AssertionError: There is no match.

        Example:
            >>> analytics.assert_identified(user.pk, plan="pro")  # doctest: +SKIP
        """
        __tracebackhide__ = True
        fields = {} if user_id is None else {"user_id": str(user_id)}
        return self._assert_one(Expectation(kind="identify", fields=fields, properties=traits))

    def assert_goal(
        self,
        goal_id: str,
        amount: Amount | None = None,
        *,
        direction: Literal["increment", "decrement"] = "increment",
        session_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> CapturedRecord:
        """Assert that this goal was incremented, or decremented.

        Args:
            goal_id: The goal's slug.
            amount: The expected amount, any by default. A goal that was captured without one has 1.
            direction: `"decrement"` for steps away from the goal.
            session_id: The expected session; any, or none, by default.
            metadata: Metadata that the goal must have at least.

        Returns:
            The first matching goal.

        Raises:
            AssertionError: There is no match.

        Example:
            >>> analytics.assert_goal("monthly-revenue", amount=49)  # doctest: +SKIP
        """
        __tracebackhide__ = True
        fields = {"direction": direction, "amount": amount, "session_id": session_id}
        given = {name: value for name, value in fields.items() if value is not None}
        return self._assert_one(Expectation(kind="goal", name=goal_id, fields=given, properties=metadata or {}))

    def assert_dropped(
        self, name: str | Event, reason: DropReason | str | None = None, /, **properties: Any
    ) -> CapturedRecord:
        """Assert that a record was captured and dropped, by all vendors or by one that accepts its kind.

        Args:
            name: An event's name, a typed event, a goal's id, or the kind of another record, such as `"identify"`.
            reason: One of `DropReason`, such as `"consent"`, `"duplicate"`, `"excluded"`, `"rolled_back"`,
                `"no_session"` or `"no_identity"`; any by default.
            **properties: Properties that the record must have at least.

        Returns:
            The first matching record.

        Raises:
            AssertionError: There is no match. The message lists dropped and other records.
            ValueError: The reason does not exist.

        Example:
            >>> analytics.assert_dropped("order_processed", "duplicate")  # doctest: +SKIP
        """
        __tracebackhide__ = True
        if reason is not None and reason not in list(DropReason):
            raise ValueError(f"reason: unknown {describe(reason)}; {did_you_mean(reason, map(str, DropReason))}")
        wanted = _wanted_event(name, None, properties)
        lost = [*self.dropped, *(one for one in self.captured if one.skipped)]
        for one in lost:
            if wanted.matched_by(one) and (reason is None or reason in {one.dropped, *one.skipped.values()}):
                return one
        asked = f"{wanted.name!r} was not dropped" + (f" for the reason {str(reason)!r}" if reason else "")
        sent = [one for one in self.captured if not one.skipped]
        raise AssertionError(
            "\n".join([asked, *format_records("dropped:", lost, skipped=True), *format_records("captured:", sent)])
        )

    def assert_nothing_captured(self) -> None:
        """Assert that no record would be sent.

        Raises:
            AssertionError: A record would be sent.
        """
        __tracebackhide__ = True
        if captured := self.captured:
            raise AssertionError("\n".join([f"{len(captured)} captured", *format_records("captured:", captured)]))

    def _assert_one(self, wanted: Expectation) -> CapturedRecord:
        __tracebackhide__ = True
        captured = self.captured
        for one in captured:
            if one.kind == wanted.kind and wanted.matched_by(one):
                return one
        raise AssertionError(wanted.explain(captured, self.dropped))

    def _of_kind(self, kind: str) -> list[CapturedRecord]:
        return [one for one in self.captured if one.kind == kind]


@contextmanager
def record() -> Iterator[Recorder]:
    """Record what all clients of the process capture in the block, without delivering it.

    Invalid calls raise a `CaptureError` regardless of the `strict` setting, except inside `lenient`. Recorders may be
    nested; each receives all records. Inside `allow_delivery` records are also delivered.

    Yields:
        The recorder.

    Example:
        >>> with record() as analytics:
        ...     pass
        >>> analytics.assert_nothing_captured()
    """
    recorder = Recorder()
    with test_mode.add_recorder(recorder), test_mode.suppress_delivery():
        yield recorder


@contextmanager
def lenient() -> Iterator[None]:
    """Let the `strict` setting decide about invalid calls while a test records: if it is off, they are logged.

    Also a decorator for functions that are not coroutine functions.

    Example:
        >>> from sessionsight import Client, Settings
        >>> client = Client(Settings(disabled=True, strict=False))
        >>> with record() as analytics, lenient():
        ...     client.analytics.capture("").accepted
        False
        >>> client.stats().rejected
        1
    """
    with test_mode.lenient():
        yield


@contextmanager
def suppress_delivery() -> Iterator[None]:
    """Suppress delivery in the block: submitted records are discarded and not counted in ledgers.

    This is the default under pytest and Django's test runner. Records that are already queued are still delivered.
    """
    with test_mode.suppress_delivery():
        yield


@contextmanager
def allow_delivery() -> Iterator[None]:
    """Deliver in the block, as in production, even if a test runner or a recorder suppresses delivery.

    Also a decorator for functions that are not coroutine functions.

    Example:
        >>> from sessionsight.test_mode import test_mode
        >>> with suppress_delivery(), allow_delivery():
        ...     test_mode.suppressed
        False
    """
    with test_mode.allow_delivery():
        yield


def _wanted_event(event: str | Event, properties: Mapping[str, Any] | None, more: Mapping[str, Any]) -> Expectation:
    wanted = {**(properties or {}), **more}
    if isinstance(event, Event):
        return Expectation(kind="event", name=event.event_name, properties={**event.properties(), **wanted})
    return Expectation(kind="event", name=event, properties=wanted)
