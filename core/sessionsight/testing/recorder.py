"""Keeps what is captured in memory, and asserts on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

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
    """What all clients of the process have handed over, in order. Made by `record`, or by pytest's `analytics`.

    A request hands over when its response has ended, as test clients see to; code outside requests at once.

    Values are compared as they would be sent: a UUID is its string, a Decimal a number. `unittest.mock.ANY`
    matches anything. A failing assertion shows what was asked for, and the nearest record.

    Example:
        >>> from sessionsight import Client, Settings
        >>> client = Client(Settings(disabled=True))
        >>> with record() as analytics:
        ...     client.analytics.capture("order_processed", {"order_id": "ord_1", "amount": 49}, user_id="user_1")
        >>> event = analytics.assert_captured("order_processed", order_id="ord_1")
        >>> event.user_id, event.properties["amount"]
        ('user_1', 49)
    """

    def __init__(self) -> None:
        self._captured: list[CapturedRecord] = []
        self._keys = SeenKeys()

    def __repr__(self) -> str:
        """How many of each kind there are."""
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

    # --- what is there ---------------------------------------------------------------------------

    @property
    def captured(self) -> list[CapturedRecord]:
        """Everything that would be sent, oldest first."""
        test_mode.sync()
        return [one for one in self._captured if one.dropped is None]

    @property
    def events(self) -> list[CapturedRecord]:
        """The events."""
        return self._of_kind("event")

    @property
    def identifies(self) -> list[CapturedRecord]:
        """The identifications."""
        return self._of_kind("identify")

    @property
    def goals(self) -> list[CapturedRecord]:
        """The goals, incremented and decremented."""
        return self._of_kind("goal")

    @property
    def dropped(self) -> list[CapturedRecord]:
        """Records that would not be sent to any vendor; `CapturedRecord.dropped` has the reason.

        Reasons: `consent`, `excluded`, `discarded`, `rolled_back`, `choose_destinations_error`, and `duplicate`, the
        second record of a kind and name with the same `key=`.
        """
        test_mode.sync()
        return [one for one in self._captured if one.dropped is not None]

    def clear(self) -> None:
        """Forget everything that was captured so far, except keys: a repeated `key=` is still a duplicate."""
        test_mode.sync()
        self._captured.clear()

    # --- what should be there --------------------------------------------------------------------

    def assert_captured(
        self, event: str | Event, properties: Mapping[str, Any] | None = None, /, **more: Any
    ) -> CapturedRecord:
        """Assert that such an event was captured, with at least these properties.

        Args:
            event: Its name, or a typed event with the properties it should have.
            properties: Properties whose names are no Python names.
            **more: Properties.

        Returns:
            The first such event.

        Raises:
            AssertionError: There is none. The message shows the nearest.

        Example:
            >>> analytics.assert_captured("order_processed", order_id="ord_1")  # doctest: +SKIP
        """
        __tracebackhide__ = True
        return self._assert_one(_wanted_event(event, properties, more))

    def assert_not_captured(
        self, event: str | Event, properties: Mapping[str, Any] | None = None, /, **more: Any
    ) -> None:
        """Assert that no such event was captured; the arguments are those of `assert_captured`.

        Raises:
            AssertionError: There is one.
        """
        __tracebackhide__ = True
        wanted = _wanted_event(event, properties, more)
        found = [one for one in self.captured if one.kind == "event" and wanted.matched_by(one)]
        if found:
            raise AssertionError("\n".join([f"{wanted} was captured", *format_records("captured:", found)]))

    def assert_identified(self, user_id: object = None, /, **traits: Any) -> CapturedRecord:
        """Assert that this user was identified, with at least these traits.

        Args:
            user_id: The app's own id; anybody's by default.
            **traits: What should be known of them.

        Returns:
            The first such identification.

        Raises:
            AssertionError: There is none.

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
            amount: Any by default; a goal that was captured without one has 1.
            direction: `"decrement"` for steps away from the goal.
            session_id: Whose session; any, or none, by default.
            metadata: What its metadata must have at least.

        Returns:
            The first such goal.

        Raises:
            AssertionError: There is none.

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
        """Assert that a record was captured and would not be sent: to no vendor, or not to one that takes its kind.

        Args:
            name: An event's name, a typed event, a goal's id, or the kind of another record, such as `"identify"`.
            reason: Why: one of `DropReason`, such as `"consent"`, `"duplicate"`, `"excluded"`, `"rolled_back"`,
                `"no_session"` or `"no_identity"`; any by default.
            **properties: Properties it has at least.

        Returns:
            The first such record.

        Raises:
            AssertionError: There is none. The message shows what was dropped, and what was not.
            ValueError: There is no such reason.

        Example:
            >>> analytics.assert_dropped("order_processed", "duplicate")  # doctest: +SKIP
        """
        __tracebackhide__ = True
        if reason is not None and reason not in list(DropReason):
            raise ValueError(f"reason: there is no {describe(reason)}; {did_you_mean(reason, map(str, DropReason))}")
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
        """Assert that nothing would be sent.

        Raises:
            AssertionError: Something would.
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
    """Record what is captured meanwhile, by all clients of the process; nothing is delivered.

    A wrong call raises a `CaptureError` meanwhile, whatever `strict` says; `lenient` prevents that. Recorders may be
    nested, and each has everything. Inside `allow_delivery` records are delivered as well.

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
    """Let the `strict` setting decide what a wrong call does, although a test records: off, it logs, as in production.

    Also a decorator, of functions that are not coroutine functions.

    Example:
        >>> from sessionsight import Client, Settings
        >>> client = Client(Settings(disabled=True, strict=False))
        >>> with record() as analytics, lenient():
        ...     client.analytics.capture("")
        >>> client.stats().rejected
        1
    """
    with test_mode.lenient():
        yield


@contextmanager
def suppress_delivery() -> Iterator[None]:
    """Deliver nothing meanwhile: records that clients submit are discarded, and their ledgers do not count them.

    Under pytest and Django's test runner this is so anyway. Records that are queued already are still delivered.
    """
    with test_mode.suppress_delivery():
        yield


@contextmanager
def allow_delivery() -> Iterator[None]:
    """Deliver meanwhile, as in production, although a test runner or a recorder suppresses delivery.

    Also a decorator, of functions that are not coroutine functions.

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
