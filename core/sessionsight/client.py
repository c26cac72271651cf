"""The client, which connects request policy, capturing and delivery for one configuration."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any, Self
from weakref import WeakMethod, finalize

from msgspec.structs import replace

from sessionsight.capture import pickling  # noqa: F401  # makes analytics picklable
from sessionsight.capture.analytics import Analytics
from sessionsight.capture.context_managers import Scope
from sessionsight.capture.encoding import PropertyEncoder
from sessionsight.capture.interfaces import Batch, FlagSource, OpenScope, Waiter
from sessionsight.capture.signatures import forgiving
from sessionsight.capture.tracing import EncodeEvent, with_trace_id
from sessionsight.capture.transactions import DeferRecord, JoinTransaction
from sessionsight.capture.validation import validate_context
from sessionsight.delivery import lifecycle, threads
from sessionsight.delivery.control import DeliveryControl
from sessionsight.delivery.engine import Engine, MakeTransport
from sessionsight.destinations import BY_NAME
from sessionsight.errors import CaptureError, ConfigurationError, describe
from sessionsight.log import ThrottledLogger, caller_location
from sessionsight.policy import RequestPolicy
from sessionsight.request.context import EMPTY_CONTEXT, TrackingContext
from sessionsight.settings import Settings
from sessionsight.test_mode import test_mode

__all__ = ["Client"]

_IDS_BY_KEYWORD = "pass ids as keyword arguments, such as user_id='user_1'"


class Client(DeliveryControl):
    """Captures outside requests, delivers records, and counts their outcomes.

    Serves sync and async code: no method blocks an event loop, except those that wait for delivery, which have an async
    version with the prefix `a`.

    Args:
        settings: By default read from the environment.
        make_transport: Returns the transport for a destination; HTTP by default. For tests.

    Example:
        >>> client = Client(Settings(destinations=()))
        >>> receipt = client.analytics.capture("report_exported", {"rows": 120}, user_id="user_1")
        >>> client.shutdown()
        True
    """

    settings: Settings

    def __init__(self, settings: Settings | None = None, *, make_transport: MakeTransport | None = None) -> None:
        given: object = settings
        if not isinstance(given, Settings | None):
            raise ConfigurationError(
                f"settings must be Settings, such as Settings.from_mapping(...) makes of a dict, not {describe(given)}"
            )
        self.settings = settings = Settings.from_env() if settings is None else settings
        self._destinations = () if settings.disabled else settings.destinations
        self._make_transport = make_transport
        self.encoder = PropertyEncoder(
            unknown=_weakly(self._unknown_type),
            failed=_weakly(self._unreadable_value),
            redact=settings.redact,
            max_bytes=settings.max_property_bytes,
            time_zone=settings.zone,
        )
        traced = settings.trace_id and not settings.disabled
        self.encode_event: EncodeEvent = with_trace_id(self.encoder) if traced else self.encoder.__call__
        self.defer_record: DeferRecord | None = None
        """Set by an adapter whose framework has database transactions."""
        self.join_transaction: JoinTransaction | None = None
        """Set by an adapter if the spool is in the app's database."""
        self._configured = frozenset(destination.name for destination in settings.destinations)
        # A call may name a vendor whose keys are missing, as on a developer's machine.
        kinds = {type(destination) for destination in settings.destinations}
        self.destination_names = self._configured | {name for name, kind in BY_NAME.items() if kind not in kinds}
        self._submit_blocks = settings.flush == "inline" or settings.durable
        self.inline = settings.flush == "inline"
        self._delivers = settings.delivery == "background"
        self.needs_start = settings.durable and self._delivers
        """True until this process has served a request, after which it delivers records that other processes left."""
        self.pageviews = settings.pageviews is not False
        """True if adapters must report the start of a response."""
        self.policy = RequestPolicy(
            settings, self.destination_names, log=_weakly(self._log), count=_weakly(self._count)
        )
        # Requests wait for the delivery of their records, so lanes must not linger.
        self._delivery = replace(settings, linger=0.0) if self.inline else settings
        self._engine = Engine(self._destinations, self._delivery, ThrottledLogger(), make_transport, settings.spool)
        self._engines_by_pid: dict[int, Engine] = {}
        finalize(self, self._engine.retire).atexit = False
        if not settings.destinations and not settings.disabled:
            self._engine.logger.log(
                logging.WARNING,
                "no destination is configured: analytics are captured and sent nowhere; "
                "`sessionsight check` shows what is missing",
            )
        if self._destinations and self._delivers and not threads.available():
            self._engine.logger.log(
                logging.WARNING,
                "uWSGI does not run threads, so each request delivers its records at its end and occupies its worker "
                "meanwhile; set enable-threads = true",
            )
        lifecycle.register(self)

    def __repr__(self) -> str:
        return f"Client({', '.join(sorted(self._configured)) or 'no destinations'})"

    # Copies of an app and its requests' scopes share one client.

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    # --- capturing -------------------------------------------------------------------------------

    @property
    def analytics(self) -> Analytics:
        """Analytics outside of requests; calls name their user or session themselves."""
        return Analytics._for_context(self)

    @forgiving(_IDS_BY_KEYWORD)
    def bind(
        self,
        context: TrackingContext = EMPTY_CONTEXT,
        *,
        user_id: object = None,
        distinct_id: object = None,
        anonymous_id: object = None,
    ) -> Analytics:
        """Return analytics under a given context, such as one from a job or a webhook.

        Args:
            context: A context, such as `TrackingContext.from_carrier` returns.
            user_id: The app's own user id; overrides the context's.
            distinct_id: Signal's id for the person, in place of the user id.
            anonymous_id: An anonymous id for Saytics and Analyse.net.

        Raises:
            InvalidEventError: In strict mode, an id is invalid. Otherwise that is logged, and the id is missing.
        """
        checked = validate_context(context, self.warn_or_raise)
        return Analytics._for_context(
            self, checked, user_id=user_id, distinct_id=distinct_id, anonymous_id=anonymous_id
        )

    @forgiving(_IDS_BY_KEYWORD)
    def scope(
        self,
        context: TrackingContext = EMPTY_CONTEXT,
        *,
        user_id: object = None,
        distinct_id: object = None,
        anonymous_id: object = None,
        flush: bool = False,
    ) -> Scope:
        """Make analytics under this context current for a block of code; see `sessionsight.scope`."""

        def make() -> Analytics:
            analytics = self.bind(context, user_id=user_id, distinct_id=distinct_id, anonymous_id=anonymous_id)
            analytics._scope._ended = False  # its records are submitted together, when the block ends
            return analytics

        return Scope(make, blocking=self._submit_blocks, flush=flush)

    @forgiving("pass users to the calls that capture")
    def for_request(self, request: object) -> Analytics:
        """Return analytics bound to a request of any shape, for code without a middleware.

        See `sessionsight.request.raw.from_any` for the shapes. Records are submitted immediately.
        """
        context, drop, selected = self.policy.evaluate(request)
        return Analytics._for_context(self, context, drop=drop, selected=selected)

    # --- what analytics need: the CaptureClient protocol ---------------------------------------------

    def submit(self, batch: Batch) -> None:
        """Submit a request's records for delivery. Performs I/O only with a durable spool."""
        engine = self._engine
        if test_mode.active or engine.pid != os.getpid():
            if test_mode.intercept(batch, self.settings.destinations):
                return
            engine = self._engine_for_process()
        engine.submit(batch)

    def encode(self, batch: Batch) -> Any:
        """Return what a request's records add to a durable spool, for a transaction that writes it itself."""
        return self._engine_for_process().encode(batch)

    def submit_soon(self, scope: OpenScope) -> None:
        """Submit the records of an open response within a second."""
        engine = self._engine
        if test_mode.active or engine.pid != os.getpid():
            if test_mode.active and test_mode.suppressed:
                return  # a recorder receives the records at the end, and no thread changes them before
            engine = self._engine_for_process()
        engine.submit_soon(scope)

    @property
    def is_recorded(self) -> bool:
        """True while a test receives the records, so that nothing is written."""
        return test_mode.active and test_mode.active_for_tests

    @property
    def flag_source(self) -> FlagSource:
        """Asks SessionSight about feature flags, in this process."""
        return self._engine_for_process().flags

    def new_waiter(self) -> Waiter:
        """Return a waiter for the batches of one request."""
        return self._engine_for_process().new_waiter()

    def start_delivery(self) -> None:
        """A first request has ended: deliver what others may have left in a durable spool, on the lanes' threads."""
        if not (test_mode.active and test_mode.active_for_tests):
            self.needs_start = False
            self._engine_for_process().start()

    def handle_error(self, error: Exception) -> None:
        """Raise the error in strict mode; otherwise log it with the caller's line and count it."""
        if self.settings.strict or test_mode.strict:
            raise error
        self._engine_for_process().increment("rejected")
        place = caller_location()
        if isinstance(error, CaptureError):
            self._log(logging.WARNING, f"{place}: {error}; nothing was captured", key=f"rejected:{place}")
        else:
            message = f"{place}: internal error, {type(error).__name__}: {error}; nothing was captured"
            self._log(logging.ERROR, message, key=f"rejected:{place}")

    def warn_or_raise(self, error: CaptureError) -> None:
        """Raise the error in strict mode; otherwise log it, and the call continues."""
        if self.settings.strict or test_mode.strict:
            raise error
        self._log(logging.WARNING, f"{caller_location()}: {error}")

    def warn(self, message: str, *, key: str) -> None:
        """Log a warning at most once a minute for each key."""
        self._log(logging.WARNING, message, key=key)

    def must_submit_early(self) -> bool:
        """Return whether an adapter must submit a request's records before the last byte of its response.

        With `flush="inline"` the host may freeze the process after it, and with a durable spool kill it. Tests read a
        recorder as soon as they have the response, which test clients do not always close.
        """
        return self._submit_blocks or test_mode.recording

    # --- inside ----------------------------------------------------------------------------------

    def _engine_for_process(self) -> Engine:
        """Return this process's engine: a new one after a fork, and an inspector's while a test redirects delivery."""
        if test_mode.redirect is not None:
            redirected: Engine = test_mode.redirect.engine_for(self)
            return redirected
        engine = self._engine
        if engine.pid != (pid := os.getpid()):
            settings, logger = self._delivery, ThrottledLogger(buffered=True)
            fresh = Engine(self._destinations, settings, logger, self._make_transport, settings.spool)
            # Without a lock, which another thread may have held at the fork: one of several threads sets the engine.
            self._engine = engine = self._engines_by_pid.setdefault(pid, fresh)
            if engine is fresh:
                finalize(self, engine.retire).atexit = False
            self.needs_start = settings.durable and self._delivers
        return engine

    def _unknown_type(self, kind: type) -> None:
        name = f"{kind.__module__}.{kind.__qualname__}"
        self._log(
            logging.WARNING,
            f'{caller_location()}: a property of type {name} is sent as "<{kind.__name__}>"; '
            "give its id or a dict instead",
            key=f"type:{name}",
        )

    def _unreadable_value(self, kind: type, error: Exception) -> None:
        name = f"{kind.__module__}.{kind.__qualname__}"
        self._log(
            logging.WARNING,
            f'{caller_location()}: a property of type {name} is sent as "<{kind.__name__}>", because reading it raised '
            f"{type(error).__name__}",
            key=f"type:{name}",
        )

    def _count(self, what: str) -> None:
        self._engine_for_process().increment(what)

    def _log(self, level: int, message: str, *, key: str | None = None) -> None:
        self._engine_for_process().logger.log(level, message, key=key)


def _weakly(method: Callable[..., None]) -> Callable[..., None]:
    """Return a function that calls an existing client's method, without a cycle that delays its finalization."""
    found = WeakMethod(method)

    def call(*arguments: Any, **options: Any) -> None:
        if (alive := found()) is not None:
            alive(*arguments, **options)

    return call
