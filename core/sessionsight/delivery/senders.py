"""The threads that wait for a vendor, so that a lane's dispatcher never does.

A call that outlives its deadline (a slow name server, a reply that drips) is given up: its outcome
is unknown from then on, and whatever its thread brings home later is ignored.
"""

from __future__ import annotations

import threading
import time
from queue import SimpleQueue

from msgspec import Struct

from sessionsight.delivery.transport import OutcomeUnknown, TimeLimits, Transport, TransportError, Unsendable
from sessionsight.destinations.base import HttpCall, HttpReply

__all__ = ["Attempt", "Outcome", "Senders"]


# The transport keeps to the limit itself where it can; this is for where it cannot.
_GRACE = 0.5


class Attempt(Struct, eq=False):
    """A call on its way."""

    call: HttpCall
    limits: TimeLimits
    deadline: float
    """On the monotonic clock."""


class Outcome(Struct, frozen=True):
    """What became of an attempt."""

    attempt: Attempt
    result: HttpReply | TransportError


class Senders:
    """Up to `concurrency` calls at a time, each on a thread of its own, started when first needed.

    Used by one dispatcher; only the queues are shared with the threads.
    """

    def __init__(self, transport: Transport, *, concurrency: int, name: str, wake: threading.Event) -> None:
        self._transport = transport
        self._concurrency = concurrency
        self._name = name
        self._wake = wake
        self._work: SimpleQueue[Attempt | None] = SimpleQueue()
        self._done: SimpleQueue[Outcome] = SimpleQueue()
        self._flying: list[Attempt] = []
        self._stuck: list[Attempt] = []
        self._threads = 0

    @property
    def in_flight(self) -> int:
        """Calls on their way, given-up ones that still hold a connection included."""
        return len(self._flying) + len(self._stuck)

    @property
    def next_deadline(self) -> float:
        """When the first of them will be given up."""
        return min((attempt.deadline for attempt in self._flying), default=float("inf"))

    def launch(self, call: HttpCall, limits: TimeLimits) -> Attempt:
        """Send the call on one of the threads; on this one if the interpreter starts no more threads."""
        attempt = Attempt(call, limits, time.monotonic() + limits.total + _GRACE)
        self._flying.append(attempt)
        if self._threads < self.in_flight:
            thread = threading.Thread(target=self._run, name=f"{self._name}-sender", daemon=True)
            try:
                thread.start()
                self._threads += 1
            except RuntimeError:  # the interpreter is shutting down
                if not self._threads:
                    self._done.put(Outcome(attempt, self._send(attempt)))
                    return attempt
        self._work.put(attempt)
        return attempt

    def finished(self) -> list[Outcome]:
        """Calls that have come back or have been given up, each once."""
        outcomes: list[Outcome] = []
        while not self._done.empty():
            outcome = self._done.get()
            if outcome.attempt in self._flying:
                self._flying.remove(outcome.attempt)
                outcomes.append(outcome)
            elif outcome.attempt in self._stuck:
                self._stuck.remove(outcome.attempt)
        now = time.monotonic()
        for attempt in [attempt for attempt in self._flying if attempt.deadline <= now]:
            self._flying.remove(attempt)
            self._stuck.append(attempt)
            error = OutcomeUnknown(f"no reply within {attempt.limits.total:g} s")
            outcomes.append(Outcome(attempt, error))
        if len(self._stuck) >= self._concurrency:
            # Every connection hangs: leave them and their threads behind, and start afresh.
            self._transport.close()
            self._threads -= len(self._stuck)
            for _ in self._stuck:
                self._work.put(None)
            self._stuck.clear()
        return outcomes

    def stop(self) -> None:
        """End the threads, without waiting for those that hang."""
        for _ in range(self._threads):
            self._work.put(None)
        self._transport.close()

    def _run(self) -> None:
        while (attempt := self._work.get()) is not None:
            self._done.put(Outcome(attempt, self._send(attempt)))
            self._wake.set()

    def _send(self, attempt: Attempt) -> HttpReply | TransportError:
        try:
            return self._transport.send(attempt.call, attempt.limits)
        except TransportError as error:
            return error
        except Exception as error:  # a transport of the user's, or a fault of ours: never lose the call
            return Unsendable(f"{type(error).__name__} in the transport")
