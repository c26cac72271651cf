"""Test mode: while tests run, records go to recorders or to a local inspector instead of to vendors.

One state for the whole process covers every client, whenever and wherever it was made, so that an app needs no
configuration of its own for its tests. Outside tests a client reads one attribute, `active`, and nothing else.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from sessionsight.capture.interfaces import Batch
from sessionsight.capture.records import DropReason, Record
from sessionsight.destinations.base import Destination
from sessionsight.errors import describe
from sessionsight.log import logger
from sessionsight.request.context import TrackingContext

__all__ = ["INHERITED", "TESTING_VARIABLE", "DeliveryRedirect", "RecordSink", "TestMode", "test_mode"]

TESTING_VARIABLE = "SESSIONSIGHT_TESTING"
"""An environment variable: `1`, `true`, `yes` or `on` means that this process delivers nothing."""

INHERITED = "inherited"
"""The variable's value in processes that tests start: the same, without the warning."""

_TRUE = frozenset({"1", "true", "yes", "on", INHERITED})
_FALSE = frozenset({"", "0", "false", "no", "off"})


class RecordSink(Protocol):
    """Receives everything that clients submit while it is added to the test mode."""

    def submit(
        self,
        context: TrackingContext,
        records: Sequence[Record],
        drop: DropReason | None,
        destinations: Sequence[Destination],
    ) -> None:
        """Receive the records of one request.

        Args:
            context: The context they would be sent under.
            records: In the order of their capture.
            drop: Why they would not be sent, if there is a reason.
            destinations: Where the client would send them.
        """


class DeliveryRedirect(Protocol):
    """Delivers for every client, in place of the client's own lanes."""

    def engine_for(self, client: Any) -> Any:
        """Return what takes the client's records: an `Engine`, the same one at each call in a process."""

    def blocks(self, destination: object) -> bool:
        """Return whether a lane must not send to this destination meanwhile."""


class TestMode:
    """Decides whether records are delivered, and shows them to recorders.

    Args:
        suppressed: Deliver nothing from the beginning, because the environment says so.
    """

    __test__ = False  # pytest would collect the class by its name

    def __init__(self, *, suppressed: bool = False) -> None:
        self.active = suppressed
        """True when `intercept` has to be called. False outside tests."""
        self.recording = False
        """True while a recorder is added: records are then submitted before the last byte of their response."""
        self.strict = False
        """True while a wrong call raises, whatever the client's settings say: when recording, outside `lenient`."""
        self.redirect: DeliveryRedirect | None = None
        """Delivers in place of all clients' own lanes, if set."""
        self._lock = threading.Lock()
        self._sinks: tuple[RecordSink, ...] = ()
        self._condition: Callable[[], bool] | None = None
        self._sync_hooks: tuple[Callable[[], None], ...] = ()
        self._suppressions = int(suppressed)
        self._from_environment = suppressed
        self._allowances = 0
        self._lenient = 0

    def intercept(self, batch: Batch, destinations: Sequence[Destination] = ()) -> bool:
        """Show the records to all recorders, and the destinations of their client. Return whether to discard them."""
        if self._sinks:
            context, drop = batch.resolve()
            for sink in self._sinks:
                sink.submit(context, batch.records, drop, destinations)
        return self.suppressed

    @property
    def suppressed(self) -> bool:
        """True while nothing is delivered."""
        if self._allowances or self.redirect is not None:
            return False
        return self._suppressions > 0 or (self._condition is not None and self._condition())

    @property
    def active_for_tests(self) -> bool:
        """True while a test runs: something records, redirects or suppresses delivery."""
        return bool(self._sinks) or self.redirect is not None or self.suppressed

    def blocks(self, destination: object) -> bool:
        """Return whether a lane must wait, because delivery is redirected away from its destination."""
        redirect = self.redirect
        return redirect is not None and redirect.blocks(destination)

    @contextmanager
    def add_recorder(self, sink: RecordSink) -> Iterator[None]:
        """Show everything that is submitted meanwhile to this sink."""
        self.sync()
        with self._changing():
            self._sinks = (*self._sinks, sink)
        try:
            yield
        finally:
            self.sync()
            with self._changing():
                self._sinks = tuple(other for other in self._sinks if other is not sink)

    @contextmanager
    def suppress_delivery(self) -> Iterator[None]:
        """Deliver nothing meanwhile, except inside `allow_delivery`."""
        with self._changing():
            self._suppressions += 1
        try:
            yield
        finally:
            with self._changing():
                self._suppressions -= 1

    @contextmanager
    def allow_delivery(self) -> Iterator[None]:
        """Deliver meanwhile, also where delivery is suppressed, and in processes that are started meanwhile."""
        with _environment(None if self.redirect is None else INHERITED):
            with self._changing():
                self._allowances += 1
            try:
                yield
            finally:
                with self._changing():
                    self._allowances -= 1

    @contextmanager
    def redirect_delivery(self, redirect: DeliveryRedirect) -> Iterator[None]:
        """Deliver through this alone meanwhile, whatever else is asked for; started processes deliver nothing."""
        with _environment(INHERITED):
            previous = self.redirect
            with self._changing():
                self.redirect = redirect
            try:
                yield
            finally:
                with self._changing():
                    self.redirect = previous

    @contextmanager
    def lenient(self) -> Iterator[None]:
        """Handle wrong calls as the client's settings say, although something records."""
        with self._changing():
            self._lenient += 1
        try:
            yield
        finally:
            with self._changing():
                self._lenient -= 1

    def end_inherited_suppression(self) -> None:
        """End the suppression that the environment asked for when this module was imported.

        Called when a test run ends whose process goes on.
        """
        with self._changing():
            if self._from_environment:
                self._from_environment = False
                self._suppressions -= 1

    def suppress_when(self, condition: Callable[[], bool] | None) -> None:
        """Deliver nothing while this is true; None removes the condition.

        Args:
            condition: Called for each batch that is submitted, so it must be fast.
        """
        with self._changing():
            self._condition = condition

    def add_sync_hook(self, hook: Callable[[], None]) -> None:
        """Call this before recorded records are read: it submits what can be known only then."""
        with self._lock:
            if hook not in self._sync_hooks:
                self._sync_hooks += (hook,)

    def sync(self) -> None:
        """Call the hooks, so that everything captured so far has been submitted."""
        for hook in self._sync_hooks:
            hook()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the lock, and update what clients and adapters read without it."""
        with self._lock:
            yield
            self.recording = bool(self._sinks)
            self.strict = self.recording and not self._lenient
            self.active = bool(self._sinks or self._suppressions or self._condition or self.redirect)


@contextmanager
def _environment(value: str | None) -> Iterator[None]:
    """Set the variable for processes that are started meanwhile; None removes it."""
    previous = os.environ.pop(TESTING_VARIABLE, None)
    if value is not None:
        os.environ[TESTING_VARIABLE] = value
    try:
        yield
    finally:
        os.environ.pop(TESTING_VARIABLE, None)
        if previous is not None:
            os.environ[TESTING_VARIABLE] = previous


def _is_suppressed_by_environment() -> bool:
    value = os.environ.get(TESTING_VARIABLE, "")
    word = value.strip().lower()
    if word in _TRUE:
        if word != INHERITED:
            logger.warning("%s=%s: this process delivers nothing", TESTING_VARIABLE, word)
        return True
    if word not in _FALSE:
        logger.warning(
            "%s must be 1, true, yes or on to stop delivery, not %s; this process delivers",
            TESTING_VARIABLE,
            describe(value),
        )
    return False


test_mode = TestMode(suppressed=_is_suppressed_by_environment())
"""The test mode of this process, shared by all of its clients."""
