"""`request.analytics`: gathers what a request captures and hands it over when the response ends.

Nothing is read from the request until it is needed, and nothing here waits: a capture encodes,
appends and returns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from os import urandom
from typing import Any, Literal, Unpack

from msgspec.structs import replace

from sessionsight.arguments import (
    CallOptions,
    RecordOptions,
    as_destinations,
    as_fields,
    as_group,
    as_groups,
    as_id,
    as_key,
    as_text,
    exact,
    laid_over,
)
from sessionsight.collector import Collector, RequestReader
from sessionsight.context import EMPTY_CONTEXT, TrackingContext
from sessionsight.errors import CaptureError, InvalidEventError, shown
from sessionsight.goals import Goals
from sessionsight.records import (
    Alias,
    Amount,
    DropReason,
    Event,
    Goal,
    Group,
    Identify,
    PersonProperties,
    Record,
    check_goal,
)
from sessionsight.standard import StandardEvent

__all__ = ["Analytics"]


class Analytics:
    """Captures events, people and goals under one tracking context.

    An adapter makes one for each request; `client.bind` and `for_request` make one for code that
    runs elsewhere, which hands over each record at once.

    Every capturing method takes the keywords of `CallOptions`. A wrong call raises a `CaptureError`
    in strict mode; otherwise it is logged with the caller's line, counted, and changes nothing.
    """

    __slots__ = (
        "__weakref__",
        "_anonymous_id",
        "_ask_while",
        "_choice",
        "_collector",
        "_context",
        "_distinct_id",
        "_drop",
        "_ended",
        "_later",
        "_only",
        "_page_status",
        "_records",
        "_seen_user",
        "_source",
        "_tags",
        "_user_id",
    )

    def __init__(self, collector: Collector, reader: RequestReader | None = None, request: Any = None) -> None:
        self._collector = collector
        # In one place, so that a thread sees both or neither when the request is let go.
        self._source = None if reader is None else (reader, request)
        self._records: list[Record] = []
        self._ended = False
        self._context: TrackingContext | None = None
        self._later: Callable[[], tuple[TrackingContext, DropReason | None]] | None = None
        self._user_id: str | None = None
        self._seen_user: str | None = None
        self._ask_while: Callable[[Analytics], bool] | None = None
        self._distinct_id: str | None = None
        self._anonymous_id: str | None = None
        self._tags: dict[str, Any] | None = None
        self._drop: DropReason | None = None
        self._only: frozenset[str] | None = None
        self._page_status: int | None = None
        self._choice: frozenset[str] | DropReason | None = None

    @classmethod
    def bound(
        cls,
        collector: Collector,
        context: TrackingContext = EMPTY_CONTEXT,
        *,
        drop: DropReason | None = None,
        choice: frozenset[str] | DropReason | None = None,
        user_id: object = None,
        distinct_id: object = None,
        anonymous_id: object = None,
    ) -> Analytics:
        """Analytics under a given context, which hand over each record at once."""
        analytics = cls(collector)
        analytics._context = context
        analytics._ended = True
        analytics._drop = drop
        analytics._choice = choice
        try:
            analytics._user_id = as_id(user_id, "user_id")
            analytics._distinct_id = as_id(distinct_id, "distinct_id")
            analytics._anonymous_id = as_id(anonymous_id, "anonymous_id")
        except CaptureError as error:
            collector.object_to(error)
        return analytics

    @property
    def context(self) -> TrackingContext:
        """The tracking context as it is known now: the ids, the user and the page."""
        source = self._source
        context = self._context
        if context is None:
            if source is not None:
                context, self._drop = self._collector.admit(*source)
            elif self._later is not None:
                context, self._drop = self._later()
            else:
                return EMPTY_CONTEXT
            self._context = context
        user_id = self._user_id
        if source is not None:
            if context.page.route is None and (route := self._collector.route(*source)) is not None:
                self._context = context = replace(context, page=replace(context.page, route=route))
            user_id = user_id or self._see_user(source)
        return context.with_user(user_id or self._seen_user or context.user_id)

    @property
    def goals(self) -> Goals:
        """Goals of this request: `goals.increment` and `goals.decrement`."""
        return Goals(self)

    def capture(
        self,
        event: str | StandardEvent,
        properties: Mapping[str, Any] | None = None,
        *,
        groups: Mapping[str, object] | None = None,
        **options: Unpack[CallOptions],
    ) -> None:
        """Capture an event.

        Args:
            event: The event's name, or a typed standard event such as `CheckoutFinished(...)`.
            properties: Names to values; they are encoded now, so later changes do not count.
            groups: Group type to group key, for Signal.
            **options: See `CallOptions`.

        Example:
            >>> request.analytics.capture("order_processed", {"order_id": "ord_1"})  # doctest: +SKIP
        """
        try:
            standard = False
            if isinstance(event, StandardEvent):
                standard = True
                for problem in event.problems():
                    self._collector.object_to(InvalidEventError(problem))
                properties = laid_over(event.properties(), properties)
                name = event.event_name
            else:
                name = as_text(event, "an event's name")
            if self._tags:
                properties = laid_over(self._tags, properties)
            self._add(
                Event(
                    name=name,
                    properties=self._collector.encoder(properties),
                    groups=as_groups(groups) if groups else None,
                    standard=standard,
                    **self._common(options),
                )
            )
        except Exception as error:
            self._collector.reject(error)

    def identify(
        self, user_id: object = None, traits: Mapping[str, Any] | None = None, **options: Unpack[RecordOptions]
    ) -> None:
        """Say who the visitor is, and what is known of them.

        Earlier records of this request that have no user are completed with this one.

        Args:
            user_id: The app's own id of the user; the signed-in user by default.
            traits: Names to values, such as `name`, `email`, `plan`.
            **options: See `RecordOptions`.
        """
        try:
            user = as_id(user_id, "user_id")
            record = Identify(properties=self._collector.encoder(traits), **self._common({**options, "user_id": user}))
            self._user_id = user or self._user_id
            self._add(record)
        except Exception as error:
            self._collector.reject(error)

    def alias(self, alias: object, **options: Unpack[CallOptions]) -> None:
        """Say that `alias`, an earlier anonymous id, is the same person as the current user. Signal only."""
        try:
            earlier = as_id(alias, "alias")
            if earlier is None:
                raise InvalidEventError(f"alias must be the earlier id of the person, not {shown(alias)}")
            self._add(Alias(alias=earlier, **self._common(options)))
        except Exception as error:
            self._collector.reject(error)

    def group(
        self,
        group_type: str,
        group_key: object,
        properties: Mapping[str, Any] | None = None,
        **options: Unpack[CallOptions],
    ) -> None:
        """Put the current user in a group, such as `("company", "acme-1")`, and describe the group. Signal only."""
        try:
            kind, key = as_group(group_type, group_key)
            encoded = self._collector.encoder(properties)
            self._add(Group(group_type=kind, group_key=key, properties=encoded, **self._common(options)))
        except Exception as error:
            self._collector.reject(error)

    def set_person_properties(self, properties: Mapping[str, Any], **options: Unpack[CallOptions]) -> None:
        """Set properties of the current user, over what is there. Signal only."""
        self._person(properties, options, once=False)

    def set_person_properties_once(self, properties: Mapping[str, Any], **options: Unpack[CallOptions]) -> None:
        """Set properties of the current user that are not set yet. Signal only."""
        self._person(properties, options, once=True)

    def tag(self, **properties: Any) -> None:
        """Add these properties to every later event of this request; an event's own go before them."""
        self._tags = {**(self._tags or {}), **properties}

    def attach(
        self, reader: RequestReader, request: Any, *, ask_while: Callable[[Analytics], bool] | None = None
    ) -> None:
        """Read from this request from now on: a framework's own, which it has made of the server's. For adapters.

        Args:
            reader: Reads it.
            request: The framework's request.
            ask_while: Whether the user may be asked for here and now, where that needs the framework's own
                context; otherwise whoever was seen last is the user.
        """
        if self._source is not None:
            self._source = (reader, request)
            self._ask_while = ask_while

    def responds(self, method: str, status: int, content_type: str | None) -> None:
        """Say how the response begins, so that a page is captured when it ends. For adapters, where the client asks.

        A page is what a GET request gets as HTML, with a status below 300, or 304.

        Args:
            method: The request's, in capitals.
            status: The response's.
            content_type: Its header, if it has one.
        """
        is_page = method == "GET" and (status < 300 or status == 304) and _is_html(content_type)
        self._page_status = status if is_page else None

    def see_user(self) -> None:
        """Look at the signed-in user now, because what tells of it is about to go. For adapters."""
        if (source := self._source) is not None:
            self._see_user(source)

    def only(self, *destinations: str) -> Analytics:
        """Send what is captured from now on to these destinations alone; a call's own `destinations=` goes before.

        It also goes before the `choose_destinations` setting. A name that does not exist is a wrong call: of
        such a list only the names that exist count, so that nothing goes where it must not.

        Args:
            *destinations: Names of lanes, one or more.

        Returns:
            These analytics, so that a call may follow at once.

        Example:
            >>> client.analytics.only("signal_eu").capture("report_exported")  # doctest: +SKIP
        """
        known = self._collector.destination_names
        try:
            self._only = known.intersection(destinations)
            if not destinations:
                raise InvalidEventError("only() needs the name of a destination")
            self._only = as_destinations(destinations, known)
        except Exception as error:
            self._collector.reject(error)
        return self

    def flush(self, timeout: float | None = None) -> bool:
        """Hand over what has been captured, and wait until all of the client's records are delivered.

        Args:
            timeout: Seconds to wait at most; the `flush_timeout` setting by default.

        Returns:
            Whether nothing is left.
        """
        self._hand_over()
        return self._collector.flush(timeout)

    async def aflush(self, timeout: float | None = None) -> bool:
        """As `flush`, without blocking the event loop."""
        self._hand_over()
        return await self._collector.aflush(timeout)

    def discard(self) -> None:
        """Throw away what has been captured and not yet handed over; it is counted as discarded."""
        self._hand_over(DropReason.DISCARDED)

    def end(self) -> None:
        """The response has ended: hand everything over. Later records are handed over at once."""
        if self._page_status is not None:
            self._capture_page()
        self._ended = True
        if self._records:
            self._hand_over()

    def finish(self) -> None:
        """As `end`, for the moment before the last byte: with `flush="inline"`, deliver as well. May block."""
        captured = self.pending
        self.end()
        if captured and self._collector.inline:
            try:
                self._collector.flush()
            except Exception as error:
                self._collector.reject(error)

    def release(self) -> None:
        """The request is over: end, keep the ids, and let go of the request object."""
        source = self._source
        if source is None:
            return
        try:
            self.end()
            self._choice = self._collector.choose(*source)
            if self._context is None:
                # Most requests capture nothing, and most of those never will: keep what is needed, work out nothing.
                self._see_user(source)
                self._later = self._collector.postpone(*source)
            else:
                self._context = self.context  # with the user that is known now
        except Exception as error:
            self._collector.reject(error)
        finally:
            self._source = None

    @property
    def pending(self) -> bool:
        """Whether something has been captured that is not handed over yet, or will be at the end."""
        return bool(self._records) or self._page_status is not None

    def _goal(
        self,
        direction: Literal["increment", "decrement"],
        goal_id: str,
        amount: Amount | None,
        *,
        metadata: Mapping[str, Any] | None,
        session_id: str | None,
        key: str | None,
        destinations: Iterable[str] | None,
    ) -> None:
        try:
            amount = check_goal(goal_id, amount, session_id)
            self._add(
                Goal(
                    goal_id=exact(goal_id),
                    direction=direction,
                    amount=amount,
                    session_id=exact(session_id) if session_id else None,
                    properties=self._collector.encoder(metadata),
                    entropy=urandom(10),
                    time=time.time(),
                    key=as_key(key),
                    destinations=self._only
                    if destinations is None
                    else as_destinations(destinations, self._collector.destination_names),
                )
            )
        except Exception as error:
            self._collector.reject(error)

    def _person(self, properties: Mapping[str, Any], options: CallOptions, *, once: bool) -> None:
        try:
            encoded = self._collector.encoder(properties)
            self._add(PersonProperties(properties=encoded, once=once, **self._common(options)))
        except Exception as error:
            self._collector.reject(error)

    def _common(self, options: CallOptions) -> dict[str, Any]:
        """The fields that every record has, from a call's options and what is known of the user."""
        common: dict[str, Any] = {
            "entropy": urandom(10),
            "time": time.time(),
            "user_id": self._user_id,
            "distinct_id": self._distinct_id,
            "anonymous_id": self._anonymous_id,
        }
        if options:
            common.update(as_fields(options, self._collector.destination_names))
        if self._only is not None and common.get("destinations") is None:
            common["destinations"] = self._only
        if common["user_id"] is None and (source := self._source) is not None:
            # Read now as well as at the end: a logout further down must not lose its user.
            common["user_id"] = self._see_user(source)
        return common

    def _capture_page(self) -> None:
        status, self._page_status = self._page_status, None
        try:
            if (source := self._source) is not None and self._collector.wants_page(*source):
                page = self.context.page
                found = {"path": page.path, "route": page.route, "status": status}
                self.capture("$pageview", {name: value for name, value in found.items() if value is not None})
        except Exception as error:
            self._collector.reject(error)

    def _add(self, record: Record) -> None:
        # Appending before looking at the flag, and setting the flag before draining, leaves no gap
        # between a thread that captures and the end of the response.
        self._records.append(record)
        if self._ended:
            self._hand_over()

    def _hand_over(self, drop: DropReason | None = None) -> None:
        records = self._drain()
        if records:
            try:
                context = EMPTY_CONTEXT if drop else self.context
                drop = drop or self._drop
                if drop is None:
                    records = self._directed(records, context)
                self._collector.submit(context, records, drop)
            except Exception as error:
                self._collector.reject(error)

    def _directed(self, records: list[Record], context: TrackingContext) -> list[Record]:
        """Send records that name no destination where the site chooses; without a choice, count them as dropped."""
        source = self._source
        choice = self._choice if source is None else self._collector.choose(*source)
        if choice is None:
            return records
        if isinstance(choice, DropReason):
            self._collector.submit(context, [record for record in records if record.destinations is None], choice)
            return [record for record in records if record.destinations is not None]
        return [replace(record, destinations=choice) if record.destinations is None else record for record in records]

    def _drain(self) -> list[Record]:
        """Take all records, each exactly once even when several threads drain."""
        taken: list[Record] = []
        take = self._records.pop
        try:
            while True:
                taken.append(take())
        except IndexError:
            taken.reverse()
            return taken

    def _see_user(self, source: tuple[RequestReader, Any]) -> str | None:
        if self._ask_while is not None and not self._ask_while(self):
            return self._seen_user
        user_id = self._collector.user_id(*source)
        if user_id is not None:
            self._seen_user = user_id
        return user_id


def _is_html(content_type: str | None) -> bool:
    return content_type is not None and content_type.partition(";")[0].strip().lower() in _HTML


_HTML = frozenset({"text/html", "application/xhtml+xml"})
