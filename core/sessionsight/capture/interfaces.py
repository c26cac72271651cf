"""The protocols between a captured request, the framework's adapter and the client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from sessionsight.capture.encoding import PropertyEncoder
from sessionsight.capture.records import DropReason, Record
from sessionsight.capture.tracing import EncodeEvent
from sessionsight.capture.transactions import DeferRecord, JoinTransaction
from sessionsight.errors import CaptureError
from sessionsight.request.context import TrackingContext
from sessionsight.request.raw import HeaderNames, RequestData

__all__ = [
    "Batch",
    "CaptureClient",
    "ContextFactory",
    "FlagCall",
    "FlagDefinition",
    "FlagSource",
    "FlagValue",
    "OpenScope",
    "Policy",
    "RequestReader",
    "Waiter",
]

_Answer = TypeVar("_Answer", covariant=True)  # noqa: PLC0105  # as the other type variables are named

ContextFactory = Callable[[], tuple[TrackingContext, DropReason | None]]
"""Returns a request's context, and the reason to drop its records, if there is one. The result never changes."""


class Waiter(Protocol):
    """Reports when the records of one request are delivered, or are known not to be."""

    @property
    def resolved(self) -> bool:
        """True when no record is left to wait for."""

    def start(self) -> None:
        """Start the time limit of the wait. Not for event loops, because it may write to a spool."""

    def wait(self) -> None:
        """Block this thread until everything is resolved, or the time limit is reached."""

    async def wait_async(self) -> None:
        """As `wait` after `start`, without blocking the event loop."""


class Batch(Struct, frozen=True, gc=False):
    """Records that are submitted together, and their context, which may be resolved later."""

    records: list[Record]
    context: TrackingContext | ContextFactory
    user_id: str | None = None
    """Overrides the context's user."""
    route: str | None = None
    """The template of the matched route, for a context that has none."""
    drop: DropReason | None = None
    """The reason to count the records as dropped."""
    waiter: Waiter | None = None
    """Notified by the lanes of the outcome of the records."""

    def resolve(self) -> tuple[TrackingContext, DropReason | None]:
        """Return the context of the records, and the reason to drop them, if there is one."""
        context, drop = self.context, self.drop
        if not isinstance(context, TrackingContext):
            context, drop_reason = context()
            drop = drop or drop_reason
        if context.opted_out:  # a carrier keeps the refusal of an earlier request
            return context, drop or DropReason.CONSENT
        if self.route is not None and context.page.route is None:
            context = replace(context, page=replace(context.page, route=self.route))
        return context.with_user(self.user_id or context.user_id), drop


class OpenScope(Protocol):
    """A request whose response stays open, and which has captured records that are not submitted yet."""

    def submit_pending(self) -> None:
        """Submit its records now. Called on a thread of delivery."""


class RequestReader(Protocol):
    """One request of a framework, as its adapter reads it.

    Where middlewares pass on copies of a request, it may have one more method, `copy_of_caller()`. It is called
    during a capture, if the request has no user, and returns a reader of the copy that the calling code works with.
    """

    def snapshot(self, names: HeaderNames) -> Callable[[], RequestData]:
        """Return a function that gives the raw strings of the request, later and on any thread.

        It keeps no more of the request than that needs. It is made for every request, and called for few.
        """

    def framework_request(self) -> Any:
        """Return the framework's request object, which the functions in the settings are called with."""

    def user_id(self) -> str | None:
        """Return the signed-in user, if the framework has loaded it already."""

    def route(self) -> str | None:
        """Return the template of the matched route, if there is one."""


class Policy(Protocol):
    """Applies the settings to one request: its context, user, route and destinations."""

    def user_id(self, request: RequestReader) -> str | None:
        """Return the signed-in user, if it is known already."""

    def route(self, request: RequestReader) -> str | None:
        """Return the template of the matched route, if there is one."""

    @property
    def selects_destinations(self) -> bool:
        """True if `select_destinations` must be called."""

    def inspect(self, request: RequestReader) -> tuple[ContextFactory, str | None, str | None]:
        """Return the results of `context_factory`, `user_id` and `route` in one call."""

    def context_factory(self, request: RequestReader) -> ContextFactory:
        """Return a function that resolves the request's context on any thread, without keeping the request."""

    def should_capture_pageview(self, request: RequestReader) -> bool:
        """Return whether the page that answers this request is captured automatically."""

    def select_destinations(self, request: RequestReader) -> frozenset[str] | DropReason | None:
        """Return the destinations of this request's records; None means all, a reason means that this failed."""


FlagValue = bool | str
"""The value of a feature flag."""


class FlagDefinition(Struct, frozen=True, kw_only=True, rename="camel"):
    """A feature flag of the property, as in SessionSight's dashboard.

    Source: https://sessionsight.com/docs/build/api-reference/flags/list
    """

    id: str
    key: str
    """Its name in code."""
    name: str
    """Its name for people."""
    description: str | None = None
    type: Literal["boolean", "string"]
    default_value: FlagValue
    """The value where no rule matches."""
    created_at: float
    """Milliseconds since 1970."""


class FlagCall(Protocol[_Answer]):
    """A call about feature flags that is in flight, or its answer. Any number of threads and coroutines may wait."""

    @property
    def done(self) -> bool:
        """True if waiting returns at once."""

    def wait(self) -> _Answer:
        """Block this thread until the answer is there or the time is over; without an answer, return an empty one."""

    async def wait_async(self) -> _Answer:
        """As `wait`, without blocking the event loop (asyncio or trio)."""


class FlagSource(Protocol):
    """Asks SessionSight about feature flags. Its methods start a call and do not wait."""

    def evaluate(
        self, context: TrackingContext, attributes: Mapping[str, Any], destinations: frozenset[str] | None
    ) -> FlagCall[Mapping[str, FlagValue]]:
        """Evaluate all flags for a visitor.

        Args:
            context: The visitor's ids.
            attributes: Values for the targeting rules, which override the ids.
            destinations: Names of the destinations that may be asked; None means all.
        """

    def list_definitions(self, destinations: frozenset[str] | None) -> FlagCall[tuple[FlagDefinition, ...]]:
        """Read the definitions of all flags. The argument is as in `evaluate`."""


class CaptureClient(Protocol):
    """The client as capturing needs it. Only `handle_error` and `warn_or_raise` raise, in strict mode."""

    @property
    def encoder(self) -> PropertyEncoder:
        """Encodes properties by the client's rules."""

    @property
    def encode_event(self) -> EncodeEvent:
        """Encodes the properties of an event: as `encoder`, with the trace id if the `trace_id` setting asks for it."""

    @property
    def policy(self) -> Policy:
        """Applies the settings to requests."""

    @property
    def defer_record(self) -> DeferRecord | None:
        """Defers records until a transaction has ended, where the framework has transactions."""

    @property
    def join_transaction(self) -> JoinTransaction | None:
        """Writes records within the app's transactions, where the spool is in the app's database."""

    @property
    def is_recorded(self) -> bool:
        """True while a test receives the records, so that nothing is written."""

    @property
    def destination_names(self) -> frozenset[str]:
        """The destinations that a call may name."""

    @property
    def inline(self) -> bool:
        """True if a response waits for the delivery of its request's records."""

    @property
    def flag_source(self) -> FlagSource:
        """Asks SessionSight about feature flags."""

    def submit_soon(self, scope: OpenScope) -> None:
        """Submit the records of an open response within a second."""

    def new_waiter(self) -> Waiter:
        """Return a waiter for the batches of one request, whose response waits for their delivery."""

    @property
    def needs_start(self) -> bool:
        """True if the end of a first request must call `start_delivery`, even if it has captured nothing."""

    def start_delivery(self) -> None:
        """Start the delivery of records that other processes may have left. Does not wait."""

    def submit(self, batch: Batch) -> None:
        """Accept a request's records for delivery, or count them as dropped."""

    def encode(self, batch: Batch) -> Any:
        """Return what a request's records add to a durable spool, for a transaction that writes it itself."""

    def handle_error(self, error: Exception) -> None:
        """Raise the error of a failed call in strict mode; otherwise log and count it."""

    def warn_or_raise(self, error: CaptureError) -> None:
        """Raise the error in strict mode; otherwise log it as a warning, and let the call go on."""

    def warn(self, message: str, *, key: str) -> None:
        """Log a warning, at most once a minute for each key."""

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything is delivered."""

    async def aflush(self, timeout: float | None = None) -> bool:
        """Wait until everything is delivered, without blocking the event loop."""
