"""Where the records of all clients go while a test says so: to its recorders, and no further.

Every client of the process asks here, whenever it was made, so that an app needs no other
configuration under test. Outside tests nothing is diverted, and the question costs one attribute.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from sessionsight.collector import Batch
from sessionsight.context import TrackingContext
from sessionsight.records import DropReason, Record

__all__ = ["VARIABLE", "Diversion", "Taker", "diversion"]

VARIABLE = "SESSIONSIGHT_TESTING"
"""An environment variable: set to anything, this process and those that it starts deliver nothing."""


class Taker(Protocol):
    """What is shown everything that clients hand over."""

    def submit(self, context: TrackingContext, records: Sequence[Record], drop: DropReason | None) -> None:
        """Take the records of a request, or what was captured and may not be sent, with the reason."""


class Diversion:
    """Says whether records are delivered, and shows them to whoever looks.

    Args:
        held: Whether nothing is delivered to begin with.
    """

    def __init__(self, *, held: bool = False) -> None:
        self.on = held
        """Whether the rest must be asked at all; False outside tests, but where a condition is set."""
        self.watched = False
        """Whether somebody looks, who may do so as soon as a response has arrived."""
        self._lock = threading.Lock()
        self._takers: tuple[Taker, ...] = ()
        self._conditions: tuple[Callable[[], bool], ...] = ()
        self._late: tuple[Callable[[], None], ...] = ()
        self._holds = int(held)
        self._deliveries = 0

    def take(self, batch: Batch) -> bool:
        """Show the records to all who look. Returns whether they must not be delivered."""
        if self._takers:
            context, drop = batch.settle()
            for taker in self._takers:
                taker.submit(context, batch.records, drop)
        return self.held

    @property
    def held(self) -> bool:
        """Whether nothing is delivered now."""
        if self._deliveries:
            return False
        return self._holds > 0 or any(condition() for condition in self._conditions)

    @property
    def under_test(self) -> bool:
        """Whether somebody looks, or nothing is delivered."""
        return bool(self._takers) or self.held

    @contextmanager
    def show(self, taker: Taker) -> Iterator[None]:
        """Show this one everything meanwhile."""
        self.catch_up()
        with self._lock:
            self._takers += (taker,)
            self._settle()
        try:
            yield
        finally:
            self.catch_up()
            with self._lock:
                self._takers = tuple(other for other in self._takers if other is not taker)
                self._settle()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Deliver nothing meanwhile, unless somebody asks for delivery."""
        self._count(holds=1)
        try:
            yield
        finally:
            self._count(holds=-1)

    @contextmanager
    def deliver(self) -> Iterator[None]:
        """Deliver meanwhile, whoever holds; processes that are started meanwhile deliver as well."""
        variable = os.environ.pop(VARIABLE, None)
        self._count(deliveries=1)
        try:
            yield
        finally:
            self._count(deliveries=-1)
            if variable is not None:
                os.environ[VARIABLE] = variable

    def hold_while(self, condition: Callable[[], bool]) -> None:
        """Deliver nothing whenever this is true; it is asked at every hand-over, so it must be quick."""
        with self._lock:
            if condition not in self._conditions:
                self._conditions += (condition,)
            self._settle()

    def before_looking(self, catch_up: Callable[[], None]) -> None:
        """Call this before somebody looks at what was taken: it hands over what can be known only by then."""
        with self._lock:
            if catch_up not in self._late:
                self._late += (catch_up,)

    def catch_up(self) -> None:
        """See to it that everything is here that has been captured."""
        for catch_up in self._late:
            catch_up()

    def _count(self, *, holds: int = 0, deliveries: int = 0) -> None:
        with self._lock:
            self._holds += holds
            self._deliveries += deliveries
            self._settle()

    def _settle(self) -> None:
        self.on = bool(self._takers or self._conditions or self._holds)
        self.watched = bool(self._takers)


diversion = Diversion(held=VARIABLE in os.environ)
"""The process's own. It is shared by all of its clients."""
