"""The records and the tracking context of one request, from its beginning until after its response.

Nothing is read from the request until it is needed, and nothing here waits. When the request is over, it is
released; what later captures need of it stays.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from sessionsight.capture.interfaces import Batch, CaptureClient, ContextFactory, FlagCall, RequestReader, Waiter
from sessionsight.capture.pending import DeferredRecords, apply_selection, drain
from sessionsight.capture.receipt import Receipt
from sessionsight.capture.records import DropReason, EventRecord, Record, random_bytes
from sessionsight.capture.transactions import TransactionLost, pass_to_transaction
from sessionsight.capture.validation import record_fields
from sessionsight.event_loop import on_event_loop, run_in_worker
from sessionsight.request.context import EMPTY_CONTEXT, TrackingContext

__all__ = ["RequestScope"]

_NO_OPTIONS: Mapping[str, Any] = {}
_HTML = frozenset({"text/html", "application/xhtml+xml"})
# Records that are kept until the request is over. If there are more, they are submitted in parts.
_MAX_RECORDS = 100
# How many forks lie between the process that imported this module and this one.
_generation = 0


def _count_fork() -> None:
    global _generation  # noqa: PLW0603  # of the process, as a fork is
    _generation += 1


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no forks
    os.register_at_fork(after_in_child=_count_fork)


class RequestScope:
    """One request from beginning to end, as its adapter drives it; its records are submitted when its response ends.

    See `sessionsight.adapters` for the order of the calls. Code outside requests has a scope without a request.

    Args:
        client: Delivers the records.
        request: Reads the request; None for code outside requests.
    """

    # Most requests capture nothing: attributes that they do not set are defaults of the class, and cost nothing.
    _context_factory: ContextFactory | None = None
    _context: TrackingContext | None = None
    _user_id: str | None = None
    _last_user: str | None = None
    _route: str | None = None
    _can_read_user: Callable[[RequestScope], bool] | None = None
    _distinct_id: str | None = None
    _anonymous_id: str | None = None
    _tags: dict[str, Any] | None = None
    _drop: DropReason | None = None
    _only: frozenset[str] | None = None
    _page_status: int | None = None
    _selected: frozenset[str] | DropReason | None = None
    _deferred: DeferredRecords | None = None
    _waiter: Waiter | None = None
    _flags: FlagCall[Mapping[str, bool | str]] | None = None
    _flag_attributes: Mapping[str, Any] = _NO_OPTIONS
    _ended = False
    _snapshotted = False
    _stays_open = False
    _submits_soon = False
    _inactive = False

    def __init__(self, client: CaptureClient, request: RequestReader | None = None) -> None:
        self._client = client
        self._request = request
        self._records: list[Record] = []
        self._generation = _generation

    @property
    def context(self) -> TrackingContext:
        """The tracking context as it is known now: the ids, the user and the page."""
        return self.resolve()[0]

    def resolve(self) -> tuple[TrackingContext, DropReason | None]:
        """Return the context as it is known now, and the reason to drop records, if there is one."""
        self._current_user()  # only the calling code leads to a copy of the request that contains the user
        return self._make_batch([]).resolve()

    @property
    def has_pending(self) -> bool:
        """True if a record is not submitted yet, or a page view will be captured at the end."""
        return bool(self._records) or self._page_status is not None

    def bind_request(
        self, request: RequestReader, *, can_read_user: Callable[[RequestScope], bool] | None = None
    ) -> None:
        """Read from this request from now on: a framework's request, or a copy that a middleware has passed on.

        Args:
            request: Reads it. Ignored once the scope is closed.
            can_read_user: Returns whether the user can be read at this moment and on this thread, where that needs the
                framework's own context. Otherwise the last user that was read counts.
        """
        if self._request is not None:
            self._request = request
            self._can_read_user = can_read_user

    def response_started(self, method: str, status: int, content_type: str | None) -> None:
        """Record how the response begins, so that a page view is captured at its end. Needed if `client.pageviews`.

        A page is the HTML response to a GET request, with a status below 300, or 304.

        Args:
            method: The request's method, in capitals.
            status: The HTTP status.
            content_type: The response's header, if it has one.
        """
        is_page = method == "GET" and (status < 300 or status == 304) and _is_html(content_type)
        self._page_status = status if is_page else None

    def stays_open(self) -> None:
        """Mark the response as one that has begun and goes on, or a connection without one, such as a websocket.

        From now on records are submitted within a second.
        """
        if not self._stays_open:
            self._stays_open = True
            if self._records:
                self._submit_soon()

    def snapshot(self, *, read_user: bool = True) -> None:
        """Read from the request what its context is resolved from.

        Adapters call it when a part of that is about to be removed, before the response has ended.

        Args:
            read_user: False where that may need another thread: the user that the last capture has read is kept.
        """
        if (request := self._request) is None:
            return
        policy = self._client.policy
        self._snapshotted |= read_user
        if read_user and self._context_factory is None and (self._can_read_user is None or self._can_read_user(self)):
            self._context_factory, user_id, self._route = policy.inspect(request)
            if user_id is not None:
                self._last_user = user_id
        else:
            self._context_factory = self._context_factory or policy.context_factory(request)
            self._route = self._route or policy.route(request)
            if read_user:
                self._read_user(request)
        # Dropped records need no selection.
        if policy.selects_destinations and (read_user or self._selected is None) and self._context_factory()[1] is None:
            self._selected = policy.select_destinations(request)

    def submit_now(self) -> None:
        """Submit what has been captured so far, while the response goes on. With a durable spool it may block."""
        if self._generation != _generation:
            self._leave_to_parent()
        if records := drain(self._records):
            self._submit(records)
        if self._deferred is not None and (records := drain(self._deferred.rolled_back)):
            self._submit(records, DropReason.ROLLED_BACK)

    def end(self) -> None:
        """Submit everything, because the response has ended. Later records are submitted at once."""
        if self._page_status is not None:
            self._capture_page()
        self._ended = True
        if self._records or self._deferred is not None:
            self.submit_now()
        elif self._client.needs_start:
            self._client.start_delivery()

    def end_before_last_byte(self) -> None:
        """As `end`, just before the last byte of the response; with `flush="inline"`, wait for delivery.

        May block, but never an event loop. Needed if `client.must_submit_early()`.
        """
        self.end()
        self._wait_for_delivery()

    async def aend_before_last_byte(self) -> None:
        """As `end_before_last_byte`, without blocking the event loop (asyncio or trio)."""
        if not self.has_pending and (self._waiter is None or self._waiter.resolved):
            self.end()
            return
        await run_in_worker(self._end_and_start_waiting)
        if self._waiter is not None:
            await self._waiter.wait_async()

    def deactivate(self) -> None:
        """Hide the analytics from work that inherited them through the context; called between `end` and `close`."""
        self._inactive = True

    def close(self) -> None:
        """End the scope if that has not happened, keep the ids, and release the request, which is over."""
        if self._request is not None:
            try:
                if self._page_status is not None:
                    self._capture_page()
                self._ended = True
                if not self._snapshotted:
                    self.snapshot()  # later captures need it, and the request is released
            except Exception as error:
                self._client.handle_error(error)
            finally:
                self._request = None
        if self._records or self._deferred is not None:
            self.submit_now()
        elif self._client.needs_start:
            self._client.start_delivery()
        if self._waiter is not None:
            self._wait_for_delivery()
        self._inactive = True

    def submit_pending(self) -> None:
        """Submit what has been captured so far, on a thread of delivery. See `interfaces.OpenScope`."""
        self._submits_soon = False  # first, so that a capture meanwhile asks for another submission
        if records := drain(self._records):
            self._submit(records, on_request_thread=False)

    def transaction_pending(self, record: Record) -> None:
        """Keep a deferred record. See `transactions.TransactionListener`."""
        # In one step, because two threads may defer the first records of a request at once.
        vars(self).setdefault("_deferred", DeferredRecords()).pending[id(record)] = record

    def transaction_ended(self, record: Record, *, committed: bool) -> None:
        """Submit a deferred record, or count it as rolled back. See `transactions.TransactionListener`."""
        if self._generation != _generation:
            self._leave_to_parent()  # whose transaction it is
        deferred = self._deferred
        if deferred is None or deferred.pending.pop(id(record), None) is None:
            return  # reported before, or discarded
        (self._records if committed else deferred.rolled_back).append(record)
        if self._ended:
            self.submit_now()

    def transaction_wrote(self, record: Record) -> None:
        """Forget a deferred record. See `transactions.TransactionListener`."""
        if self._deferred is not None:
            self._deferred.pending.pop(id(record), None)

    def encode(self, records: Sequence[Record]) -> list[Any]:
        """Return those deferred records that were not discarded. See `transactions.TransactionListener`."""
        pending = {} if self._deferred is None else self._deferred.pending
        return [self._client.encode(part) for part in self._batches([one for one in records if id(one) in pending])]

    @property
    def client(self) -> CaptureClient:
        """The client that delivers the records."""
        return self._client

    # --- for `Analytics` -------------------------------------------------------------------------

    def _record_fields(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that every kind of record has, from a call's options and what is known of the user."""
        fields: dict[str, Any] = {
            "random": random_bytes(),
            "time": time.time(),
            "user_id": self._current_user(),
            "distinct_id": self._distinct_id,
            "anonymous_id": self._anonymous_id,
            "destinations": self._only,
        }
        if options:
            fields.update(record_fields(options, self._client.destination_names, self._client.encoder.time_zone))
        return fields

    def _current_user(self) -> str | None:
        """Return the user at this moment, read at each call and at the end because of logouts in between."""
        if self._user_id is not None or (request := self._request) is None:
            return self._user_id
        user_id = self._read_user(request)
        if user_id is None and (copy_of_caller := getattr(request, "copy_of_caller", None)) is not None:
            copied: RequestReader | None = copy_of_caller()
            if copied is not None and self._request is request:
                self._request = copied  # the end of the request reads from it as well
                user_id = self._read_user(copied)
        return user_id

    def _add(self, record: Record, options: Mapping[str, Any] = _NO_OPTIONS) -> Receipt:
        if self._generation != _generation:
            self._leave_to_parent()
        if options.get("on_commit") is not False and pass_to_transaction(self, record, options, self._submit):
            return Receipt(record, self._drop)
        # Appending before reading the flag, and setting the flag before draining, leaves no gap
        # between a thread that captures and the end of the response.
        self._records.append(record)
        if self._ended or len(self._records) >= _MAX_RECORDS:
            self.submit_now()
        elif self._stays_open and not self._submits_soon:
            self._submit_soon()
        return Receipt(record, self._drop)

    def _refuse(self, error: Exception) -> Receipt:
        """Raise the error of a failed call in strict mode; otherwise log it, and return a receipt with it."""
        if isinstance(error, TransactionLost):
            raise error.error
        self._client.handle_error(error)
        return Receipt(None, str(error) or type(error).__name__)

    def _discard(self) -> None:
        if self._generation != _generation:
            self._leave_to_parent()
        records = drain(self._records)
        if self._deferred is not None:
            records += self._deferred.drain()
        if records:
            try:
                self._client.submit(Batch(records, EMPTY_CONTEXT, drop=DropReason.DISCARDED))
            except Exception as error:
                self._client.handle_error(error)

    # --- inside ----------------------------------------------------------------------------------

    def _capture_page(self) -> None:
        if self._generation != _generation:
            self._leave_to_parent()
            return
        status, self._page_status = self._page_status, None
        try:
            if (request := self._request) is not None and self._client.policy.should_capture_pageview(request):
                page = self.context.page
                found = {"path": page.path, "route": page.route, "status": status}
                properties = {name: value for name, value in found.items() if value is not None}
                encoded = self._client.encode_event({**(self._tags or {}), **properties})
                # The page has been served, whatever becomes of a transaction around it.
                self._add(
                    EventRecord(name="$pageview", properties=encoded, **self._record_fields({})), {"on_commit": False}
                )
        except Exception as error:
            self._client.handle_error(error)

    def _submit_soon(self) -> None:
        self._submits_soon = True
        self._client.submit_soon(self)

    def _leave_to_parent(self) -> None:
        """Leave what was captured before a fork to the parent process, whose response it is.

        What the child captures is submitted at once.
        """
        self._generation = _generation
        self._records, self._page_status = [], None
        vars(self).pop("_deferred", None)  # not None, which `transaction_pending` would find there
        try:
            self._context, self._drop = self._make_batch([]).resolve()
        except Exception as error:
            self._client.handle_error(error)
        self._context_factory = self._request = self._waiter = None
        self._ended = True

    def _submit(self, records: list[Record], drop: DropReason | None = None, *, on_request_thread: bool = True) -> None:
        try:
            for part in self._batches(records, drop, on_request_thread=on_request_thread):
                self._client.submit(part)
        except Exception as error:
            self._client.handle_error(error)

    def _batches(
        self, records: list[Record], drop: DropReason | None = None, *, on_request_thread: bool = True
    ) -> Sequence[Batch]:
        batch = self._make_batch(records, on_request_thread=on_request_thread)
        if drop is not None:
            batch = replace(batch, drop=drop)
        return (batch,) if self._selected is None else apply_selection(batch, self._selected)

    def _end_and_start_waiting(self) -> None:
        self.end()
        if self._waiter is not None:
            self._waiter.start()

    def _wait_for_delivery(self) -> None:
        """With `flush="inline"`, wait for the records of this request, and for no others."""
        if (waiter := self._waiter) is None or self._generation != _generation:
            return
        if waiter.resolved or on_event_loop():
            return
        try:
            waiter.wait()
        except Exception as error:
            self._client.handle_error(error)

    def _make_batch(self, records: list[Record], *, on_request_thread: bool = True) -> Batch:
        """Return the records with what their context is resolved from, as far as it is known now.

        Args:
            records: To be submitted.
            on_request_thread: False where the request's user cannot be read.
        """
        if self._context is None and self._waiter is None and self._client.inline:
            # In one step, because two threads may submit the first records of a request at once.
            vars(self).setdefault("_waiter", self._client.new_waiter())
        self.snapshot(read_user=on_request_thread)
        if on_request_thread:
            self._snapshotted = self._ended  # a snapshot from before the end is taken again at the end
        origin = self._context_factory or self._context or EMPTY_CONTEXT
        return Batch(records, origin, self._user_id or self._last_user, self._route, self._drop, self._waiter)

    def _read_user(self, request: RequestReader) -> str | None:
        if self._can_read_user is not None and not self._can_read_user(self):
            return self._last_user
        user_id = self._client.policy.user_id(request)
        if user_id is not None:
            self._last_user = user_id
        return user_id


def _is_html(content_type: str | None) -> bool:
    return content_type is not None and content_type.partition(";")[0].strip().lower() in _HTML
