"""What is known of a request, and what it has captured, until its response has ended.

Nothing is read from the request until it is needed, and nothing here waits. The request is let go
when it is over; what a later capture would need stays.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from sessionsight.capture.interfaces import Batch, CaptureClient, ContextFactory, Receipt, RequestReader
from sessionsight.capture.pending import Held, directed, drained
from sessionsight.capture.records import DropReason, EventRecord, Record, random_bytes
from sessionsight.capture.validation import record_fields
from sessionsight.event_loop import on_event_loop, run_in_worker
from sessionsight.request.context import EMPTY_CONTEXT, TrackingContext

__all__ = ["Gathering"]

_NO_OPTIONS: Mapping[str, Any] = {}
# Records that a request keeps until it is over. More are handed over in parts.
_MOST = 100
# How often this process was forked off, counted from the first that has imported this.
_generation = 0


def _count_fork() -> None:
    global _generation  # noqa: PLW0603  # of the process, as a fork is
    _generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


class Gathering:
    """Gathers records under one tracking context, and hands them over when the response ends."""

    # Most requests capture nothing: what differs for few stands here, and costs them nothing.
    _admit: ContextFactory | None = None
    _context: TrackingContext | None = None
    _user_id: str | None = None
    _seen_user: str | None = None
    _route: str | None = None
    _ask_while: Callable[[Gathering], bool] | None = None
    _distinct_id: str | None = None
    _anonymous_id: str | None = None
    _tags: dict[str, Any] | None = None
    _drop: DropReason | None = None
    _only: frozenset[str] | None = None
    _page_status: int | None = None
    _choice: frozenset[str] | DropReason | None = None
    _held: Held | None = None
    _receipt: Receipt | None = None
    _ended = False
    _looked = False
    _stays_open = False
    _watched = False
    _over = False

    def __init__(self, collector: CaptureClient, reader: RequestReader | None = None, request: Any = None) -> None:
        self._collector = collector
        # In one place, so that a thread sees both or neither when the request is let go.
        self._source = None if reader is None else (reader, request)
        self._records: list[Record] = []
        self._generation = _generation

    @property
    def context(self) -> TrackingContext:
        """The tracking context as it is known now: the ids, the user and the page."""
        return self._batch([]).resolve()[0]

    def attach(
        self, reader: RequestReader, request: Any, *, ask_while: Callable[[Gathering], bool] | None = None
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

    def follow(self, request: Any) -> None:
        """Read from this copy of the request from now on, which a middleware may have put more into. For adapters."""
        source = self._source
        if source is not None and source[1] is not request:
            self._source = (source[0], request)

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

    def stays_open(self) -> None:
        """Say that the response has begun and goes on, or that there is none, as of a websocket. For adapters.

        What is captured leaves within a second from now on.
        """
        if not self._stays_open:
            self._stays_open = True
            if self._records:
                self._watch()

    def look(self) -> None:
        """Take from the request what leads to its context, as far as it tells by now.

        Adapters call it where some of that is about to go, before the response has ended.
        """
        if (source := self._source) is None:
            return
        self._looked = True
        collector = self._collector
        reader, request = source
        if self._admit is None and (self._ask_while is None or self._ask_while(self)):
            self._admit, user_id, self._route = collector.policy.inspect(reader, request)
            if user_id is not None:
                self._seen_user = user_id
        else:
            self._admit = self._admit or collector.policy.context_factory(reader, request)
            self._route = self._route or collector.policy.route(reader, request)
            self._see_user(source)
        if collector.policy.selects_destinations and self._admit()[1] is None:  # what is not sent needs no choice
            self._choice = collector.policy.select_destinations(reader, request)

    def _look_from_elsewhere(self) -> None:
        """As `look`, but the user is whoever was seen at the last capture: reading it may need the request's thread."""
        if (source := self._source) is None:
            return
        collector = self._collector
        self._admit = self._admit or collector.policy.context_factory(*source)
        self._route = self._route or collector.policy.route(*source)
        if collector.policy.selects_destinations and self._choice is None and self._admit()[1] is None:
            self._choice = collector.policy.select_destinations(*source)

    def _discard(self) -> None:
        if self._generation != _generation:
            self._leave_to_parent()
        records = drained(self._records)
        if self._held is not None:
            records += self._held.give_up()
        if records:
            try:
                self._collector.submit(Batch(records, EMPTY_CONTEXT, drop=DropReason.DISCARDED))
            except Exception as error:
                self._collector.handle_error(error)

    def transaction_ended(self, record: Record, *, committed: bool) -> None:
        """Say what became of a record that was held. For adapters; see `collector.TransactionListener`."""
        held = self._held
        if held is None or held.waiting.pop(id(record), None) is None:
            return  # settled before, or discarded
        (self._records if committed else held.rolled_back).append(record)
        if self._ended:
            self._hand_over()

    def hand_over(self) -> None:
        """Hand over what has been captured by now, while the response goes on. With a durable spool it may block."""
        self._hand_over()

    def end(self) -> None:
        """The response has ended: hand everything over. Later records are handed over at once."""
        if self._page_status is not None:
            self._capture_page()
        self._ended = True
        if self._records or self._held is not None:
            self._hand_over()
        elif self._collector.needs_start:
            self._collector.start_delivery()

    def finish(self) -> None:
        """As `end`, for the moment before the last byte: with `flush="inline"`, deliver as well.

        May block, but never an event loop.
        """
        self.end()
        self._wait_for_delivery()

    async def afinish(self) -> None:
        """As `finish`, without blocking the event loop (asyncio or trio)."""
        if not self.pending and (self._receipt is None or self._receipt.settled):
            self.end()
            return
        await run_in_worker(self._end_and_start_waiting)
        if self._receipt is not None:
            await self._receipt.wait_async()

    def release(self) -> None:
        """The request is over: end, keep the ids, and let go of the request object."""
        if self._source is not None:
            try:
                if self._page_status is not None:
                    self._capture_page()
                self._ended = True
                if not self._looked:
                    self.look()  # later captures need it, and the request must go
            except Exception as error:
                self._collector.handle_error(error)
            finally:
                self._source = None
        if self._records or self._held is not None:
            self._hand_over()
        elif self._collector.needs_start:
            self._collector.start_delivery()
        if self._receipt is not None:
            self._wait_for_delivery()
        self._over = True  # for whoever finds these analytics by an inherited context, see `current`

    @property
    def pending(self) -> bool:
        """Whether something has been captured that is not handed over yet, or will be at the end."""
        return bool(self._records) or self._page_status is not None

    def _common(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that every record has, from a call's options and what is known of the user."""
        common: dict[str, Any] = {
            "random": random_bytes(),
            "time": time.time(),
            "user_id": self._user_now(),
            "distinct_id": self._distinct_id,
            "anonymous_id": self._anonymous_id,
            "destinations": self._only,
        }
        if options:
            common.update(record_fields(options, self._collector.destination_names, self._collector.encoder.time_zone))
        return common

    def _user_now(self) -> str | None:
        """Who is known to be the user. Read at each call and at the end: a logout in between must not lose its user."""
        if self._user_id is not None or (source := self._source) is None:
            return self._user_id
        user_id = self._see_user(source)
        if user_id is None and (copy_of_caller := getattr(source[0], "copy_of_caller", None)) is not None:
            copied = copy_of_caller(source[1])
            if copied is not None and self._source is source:
                self._source = source = (source[0], copied)  # where the end of the request is to look as well
                user_id = self._see_user(source)
        return user_id

    def _capture_page(self) -> None:
        if self._generation != _generation:
            self._leave_to_parent()
            return
        status, self._page_status = self._page_status, None
        try:
            if (source := self._source) is not None and self._collector.policy.should_capture_pageview(*source):
                page = self.context.page
                found = {"path": page.path, "route": page.route, "status": status}
                properties = {name: value for name, value in found.items() if value is not None}
                encoded = self._collector.encoder({**(self._tags or {}), **properties})
                # A page that was served was served, whatever becomes of a transaction around it.
                self._add(EventRecord(name="$pageview", properties=encoded, **self._common({})), {"on_commit": False})
        except Exception as error:
            self._collector.handle_error(error)

    def _add(self, record: Record, options: Mapping[str, Any] = _NO_OPTIONS) -> None:
        if self._generation != _generation:
            self._leave_to_parent()
        hold = self._collector.defer_record
        if hold is not None and options.get("on_commit") is not False and hold(self, record, options.get("using")):
            # In one step, since two threads may hold the first records of a request at once.
            vars(self).setdefault("_held", Held()).waiting[id(record)] = record
            return
        # Appending before looking at the flag, and setting the flag before draining, leaves no gap
        # between a thread that captures and the end of the response.
        self._records.append(record)
        if self._ended or len(self._records) >= _MOST:
            self._hand_over()
        elif self._stays_open and not self._watched:
            self._watch()

    def _watch(self) -> None:
        self._watched = True
        self._collector.submit_soon(self)

    def submit_pending(self) -> None:
        """Submit what has been captured by now, on a thread of delivery. See `collector.OpenScope`."""
        self._watched = False  # first, so that whoever captures something meanwhile is watched again
        if records := drained(self._records):
            self._submit(records, elsewhere=True)

    def _hand_over(self) -> None:
        if self._generation != _generation:
            self._leave_to_parent()
        if records := drained(self._records):
            self._submit(records)
        if self._held is not None and (records := drained(self._held.rolled_back)):
            self._submit(records, DropReason.ROLLED_BACK)

    def _leave_to_parent(self) -> None:
        """In a child that was forked during the request: leave to the parent what was captured before the fork.

        What is captured here is submitted at once, since the response ends in the parent.
        """
        self._generation = _generation
        self._records, self._held, self._page_status = [], None, None
        try:
            self._context, self._drop = self._batch([]).resolve()
        except Exception as error:
            self._collector.handle_error(error)
        self._admit = self._source = self._receipt = None
        self._ended = True

    def _submit(self, records: list[Record], drop: DropReason | None = None, *, elsewhere: bool = False) -> None:
        try:
            batch = self._batch(records, elsewhere=elsewhere)
            if drop is not None:
                batch = replace(batch, drop=drop)
            for part in (batch,) if self._choice is None else directed(batch, self._choice):
                self._collector.submit(part)
        except Exception as error:
            self._collector.handle_error(error)

    def _end_and_start_waiting(self) -> None:
        self.end()
        if self._receipt is not None:
            self._receipt.start()

    def _wait_for_delivery(self) -> None:
        """With `flush="inline"`, wait for what this request has captured, and for nobody else's records."""
        if (receipt := self._receipt) is None or self._generation != _generation:
            return
        if receipt.settled or on_event_loop():
            return
        try:
            receipt.wait()
        except Exception as error:
            self._collector.handle_error(error)

    def _batch(self, records: list[Record], *, elsewhere: bool = False) -> Batch:
        """The records, and what leads to their context as far as it is known now.

        Args:
            records: To be handed over.
            elsewhere: This is not the request's own thread, where its user could be read.
        """
        if self._context is None and self._receipt is None and self._collector.inline:
            # In one step, since two threads may hand over the first records of a request at once.
            vars(self).setdefault("_receipt", self._collector.new_receipt())
        if elsewhere:
            self._look_from_elsewhere()
        else:
            self.look()
            self._looked = self._ended  # what was looked at before the end has to be looked at again
        origin = self._admit or self._context or EMPTY_CONTEXT
        return Batch(records, origin, self._user_id or self._seen_user, self._route, self._drop, self._receipt)

    def _see_user(self, source: tuple[RequestReader, Any]) -> str | None:
        if self._ask_while is not None and not self._ask_while(self):
            return self._seen_user
        user_id = self._collector.policy.user_id(*source)
        if user_id is not None:
            self._seen_user = user_id
        return user_id


def _is_html(content_type: str | None) -> bool:
    return content_type is not None and content_type.partition(";")[0].strip().lower() in _HTML


_HTML = frozenset({"text/html", "application/xhtml+xml"})
