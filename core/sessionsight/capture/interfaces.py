"""What analytics need of the two sides they stand between: an adapter's request, and a client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import replace

from sessionsight.capture.encoding import PropertyEncoder
from sessionsight.capture.records import DropReason, Record
from sessionsight.errors import CaptureError
from sessionsight.request.context import TrackingContext
from sessionsight.request.raw import HeaderNames, RequestData

__all__ = ["Admit", "Batch", "Collector", "Hold", "Holder", "OpenScope", "Receipt", "RequestReader"]

Admit = Callable[[], tuple[TrackingContext, DropReason | None]]
"""Works out a request's context, and why nothing of it may be sent, if so. The same at each call."""


class Receipt(Protocol):
    """Tells when the records of one request are delivered, or are known not to be."""

    @property
    def settled(self) -> bool:
        """True when nothing is left to wait for."""

    def start(self) -> None:
        """Begin to wait: from now on time counts. Not for event loops, since it may write to a spool."""

    def wait(self) -> None:
        """Block this thread until everything is settled, or the time is over."""

    async def wait_async(self) -> None:
        """As `wait` after `start`, without blocking the event loop."""


class Batch(Struct, frozen=True, gc=False):
    """Records that are handed over together, with what leads to their context, which may be worked out later."""

    records: list[Record]
    context: TrackingContext | Admit
    user_id: str | None = None
    """Who did it, in place of the context's user."""
    route: str | None = None
    """The template of the route that matched, for a context that has none."""
    drop: DropReason | None = None
    """Count them as dropped for this reason."""
    receipt: Receipt | None = None
    """Where the lanes report what has become of them."""

    def settle(self) -> tuple[TrackingContext, DropReason | None]:
        """The context they go out under, and why they must not, if so."""
        context, drop = self.context, self.drop
        if not isinstance(context, TrackingContext):
            context, objection = context()
            drop = drop or objection
        if context.opted_out:  # which a carrier may say of a request long ago
            return context, drop or DropReason.CONSENT
        if self.route is not None and context.page.route is None:
            context = replace(context, page=replace(context.page, route=self.route))
        return context.with_user(self.user_id or context.user_id), drop


class OpenScope(Protocol):
    """A request whose response stays open, and which has captured something that is not submitted yet."""

    def submit_pending(self) -> None:
        """Submit its records now. Called by a thread of delivery."""


class Holder(Protocol):
    """Whose record it is that somebody keeps."""

    def settle(self, record: Record, *, kept: bool) -> None:
        """Say what became of a record that was held: it counts, or its transaction was rolled back.

        Only the first word counts. May be called on any thread, and by a finalizer.
        """


Hold = Callable[[Holder, Record, str | None], bool]
"""Asked of each record, with the alias of a database if the caller named one: whether somebody keeps it for now.

It may raise an `InvalidEventError`, when there is no such database.
"""


class RequestReader(Protocol):
    """How an adapter reads one kind of request. One reader serves all requests of a client.

    Where middlewares hand on copies of a request, it may have a method more, `copy_of_caller(request)`. That is called
    while something is captured, if the request tells no user, and returns the copy that the calling code works with.
    """

    def snapshot(self, request: Any, names: HeaderNames) -> Callable[[], RequestData]:
        """What gives the raw strings of the request when it is called, later and on any thread.

        It holds no more of the request than that needs. It is taken of every request, and called for few.
        """

    def native(self, request: Any) -> Any:
        """The request as the framework's users know it, for their own functions."""

    def user_id(self, request: Any) -> str | None:
        """The signed-in user, if the framework has loaded it already."""

    def route(self, request: Any) -> str | None:
        """The template of the route that matched, if one has."""


class Collector(Protocol):
    """What analytics need of a client. None of it raises, but for `reject` and `object_to` in strict mode."""

    @property
    def encoder(self) -> PropertyEncoder:
        """Encodes properties by the client's rules."""

    @property
    def hold(self) -> Hold | None:
        """Keeps records until a transaction has ended, where the framework has transactions."""

    @property
    def destination_names(self) -> frozenset[str]:
        """The destinations a call may name."""

    @property
    def inline(self) -> bool:
        """Whether a response waits for the delivery of what its request captured."""

    def watch(self, scope: OpenScope) -> None:
        """Submit within a second what an open response has captured."""

    def new_receipt(self) -> Receipt:
        """A receipt for the batches of one request, whose response waits for their delivery."""

    @property
    def asleep(self) -> bool:
        """Whether a first request should `wake` it, even if it has captured nothing."""

    def wake(self) -> None:
        """A request has ended: look after what other processes may have left. Does not wait."""

    def user_id(self, reader: RequestReader, request: Any) -> str | None:
        """Who is signed in, as far as that is known already."""

    def route(self, reader: RequestReader, request: Any) -> str | None:
        """The template of the route that matched, if one has."""

    @property
    def selects_destinations(self) -> bool:
        """True when `select_destinations` has to be called."""

    def inspect(self, reader: RequestReader, request: Any) -> tuple[Admit, str | None, str | None]:
        """Return the results of `context_factory`, `user_id` and `route`, reading the request once."""

    def context_factory(self, reader: RequestReader, request: Any) -> Admit:
        """What gives the request's context when it is called, on any thread; it does not hold the request."""

    def should_capture_pageview(self, reader: RequestReader, request: Any) -> bool:
        """Whether the page that answers this request is captured by itself."""

    def select_destinations(self, reader: RequestReader, request: Any) -> frozenset[str] | DropReason | None:
        """The destinations of this request's records; None is all, a reason means that the choice failed."""

    def submit(self, batch: Batch) -> None:
        """Take the records of a request, to be delivered, or counted as dropped."""

    def reject(self, error: Exception) -> None:
        """Deal with a call that went wrong: raise the error in strict mode, else log and count it."""

    def object_to(self, error: CaptureError) -> None:
        """Raise the error in strict mode, else log it as a warning; the call goes on."""

    def warn(self, message: str, *, key: str) -> None:
        """Log a warning, at most once a minute for each key."""

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything is delivered."""

    async def aflush(self, timeout: float | None = None) -> bool:
        """Wait until everything is delivered, without blocking the event loop."""
