"""Test mode: while tests run, records go to recorders or to a local inspector instead of to vendors.

One state for the whole process covers every client, whenever and wherever it was created, so that an app needs no
configuration for its tests. Outside tests a client only reads one attribute, `active`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from sessionsight.capture.interfaces import Batch, FlagValue
from sessionsight.capture.records import DropReason, Record
from sessionsight.destinations.base import Destination
from sessionsight.errors import describe
from sessionsight.log import logger
from sessionsight.request.context import TrackingContext

__all__ = ["INHERITED", "TESTING_VARIABLE", "DeliveryRedirect", "RecordSink", "TestMode", "test_mode"]

TESTING_VARIABLE = "SESSIONSIGHT_TESTING"
"""An environment variable: `1`, `true`, `yes` or `on` means that this process delivers nothing."""

INHERITED = "inherited"
"""The variable's value in processes that tests start: as `1`, without the warning."""

_TRUE = frozenset({"1", "true", "yes", "on", INHERITED})
_FALSE = frozenset({"", "0", "false", "no", "off"})


class RecordSink(Protocol):
    """Receives everything that clients submit while it is added to the test mode."""

    @property
    def flags(self) -> Mapping[str, FlagValue]:
        """Feature flags of all visitors. If there are any, no vendor is asked."""

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
            drop: The reason why they would not be sent, or None.
            destinations: The destinations of the client.
        """


class DeliveryRedirect(Protocol):
    """Delivers for every client, instead of the client's own lanes."""

    def engine_for(self, client: Any) -> Any:
        """Return the `Engine` for the client's records, the same one for each call in a process."""

    def blocks(self, destination: object) -> bool:
        """Return whether lanes must not send to this destination."""


class TestMode:
    """Decides whether records are delivered, and shows them to recorders.

    Args:
        suppressed: Suppress delivery from the beginning, because the environment says so.
    """

    __test__ = False  # pytest would collect the class by its name

    def __init__(self, *, suppressed: bool = False) -> None:
        self.active = suppressed
        """True when `intercept` has to be called. False outside tests."""
        self.recording = False
        """True while a recorder is added: records are then submitted before the last byte of their response."""
        self.strict = False
        """True while invalid calls raise regardless of the client's settings: when recording, outside `lenient`."""
        self.redirect: DeliveryRedirect | None = None
        """Delivers instead of all clients' own lanes, if set."""
        self._lock = threading.Lock()
        self._sinks: tuple[RecordSink, ...] = ()
        self._condition: Callable[[], bool] | None = None
        self._sync_hooks: tuple[Callable[[], None], ...] = ()
        self._suppressions = int(suppressed)
        self._from_environment = suppressed
        self._allowances = 0
        self._lenient = 0

    def intercept(self, batch: Batch, destinations: Sequence[Destination] = ()) -> bool:
        """Pass the records and their client's destinations to all recorders. Return whether to discard the records."""
        if self._sinks:
            context, drop = batch.resolve()
            for sink in self._sinks:
                sink.submit(context, batch.records, drop, destinations)
        return self.suppressed

    @property
    def suppressed(self) -> bool:
        """True while delivery is suppressed."""
        if self._allowances or self.redirect is not None:
            return False
        return self._suppressions > 0 or (self._condition is not None and self._condition())

    @property
    def flags(self) -> Mapping[str, FlagValue] | None:
        """The feature flags that tests have set; None if there are none and the vendor is to be asked."""
        fixed = {key: value for sink in self._sinks for key, value in sink.flags.items()}
        return fixed if fixed or self.suppressed else None

    @property
    def active_for_tests(self) -> bool:
        """True while a test runs: something records, redirects or suppresses delivery."""
        return bool(self._sinks) or self.redirect is not None or self.suppressed

    def blocks(self, destination: object) -> bool:
        """Return whether a lane must wait because delivery is redirected from its destination."""
        redirect = self.redirect
        return redirect is not None and redirect.blocks(destination)

    @contextmanager
    def add_recorder(self, sink: RecordSink) -> Iterator[None]:
        """Pass everything that is submitted in the block to this sink."""
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
        """Suppress delivery in the block, except inside `allow_delivery`."""
        with self._changing():
            self._suppressions += 1
        try:
            yield
        finally:
            with self._changing():
                self._suppressions -= 1

    @contextmanager
    def allow_delivery(self) -> Iterator[None]:
        """Deliver in the block even if delivery is suppressed, and in processes that are started in it."""
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
        """Deliver only through this redirect in the block; processes that are started in it deliver nothing."""
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
        """Handle invalid calls as the client's settings say, even while recording."""
        with self._changing():
            self._lenient += 1
        try:
            yield
        finally:
            with self._changing():
                self._lenient -= 1

    def end_inherited_suppression(self) -> None:
        """End the suppression that the environment requested when this module was imported.

        Called at the end of a test run whose process continues.
        """
        with self._changing():
            if self._from_environment:
                self._from_environment = False
                self._suppressions -= 1

    def suppress_when(self, condition: Callable[[], bool] | None) -> None:
        """Suppress delivery while the condition is true; None removes it.

        Args:
            condition: Called for each submitted batch, so it must be fast.
        """
        with self._changing():
            self._condition = condition

    def add_sync_hook(self, hook: Callable[[], None]) -> None:
        """Call this hook before recorded records are read, so that it can submit pending ones."""
        with self._lock:
            self._sync_hooks += (hook,)

    def sync(self) -> None:
        """Call the hooks, so that everything captured so far has been submitted."""
        for hook in self._sync_hooks:
            hook()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the lock, and update the attributes that clients and adapters read without it."""
        with self._lock:
            yield
            self.recording = bool(self._sinks)
            self.strict = self.recording and not self._lenient
            self.active = bool(self._sinks or self._suppressions or self._condition or self.redirect)


@contextmanager
def _environment(value: str | None) -> Iterator[None]:
    """Set the variable for processes that are started in the block; None removes it."""
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
            "%s must be 1, true, yes or on to suppress delivery, not %s; this process delivers",
            TESTING_VARIABLE,
            describe(value),
        )
    return False


test_mode = TestMode(suppressed=_is_suppressed_by_environment())
"""The test mode of this process, shared by all of its clients."""
