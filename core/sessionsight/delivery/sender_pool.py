"""The threads that wait for a vendor, so that a lane's dispatcher never does.

A call that outlives its deadline (a slow name server, a reply that drips) is given up: its outcome
is unknown from then on, and whatever its thread brings home later is ignored.
"""

from __future__ import annotations

import queue
import threading
import time

from msgspec import Struct

from sessionsight.delivery import threads
from sessionsight.delivery.transport import (
    NotSent,
    OutcomeUnknown,
    TimeLimits,
    Transport,
    TransportError,
    Unsendable,
)
from sessionsight.delivery.wake_event import Wake
from sessionsight.destinations.base import VendorRequest, VendorResponse
from sessionsight.errors import ConfigurationError

__all__ = ["Attempt", "Outcome", "Senders"]


# The transport keeps to the limit itself where it can; this is for where it cannot.
_GRACE = 0.5


class Attempt(Struct, eq=False):
    """A call on its way."""

    call: VendorRequest
    limits: TimeLimits
    deadline: float
    """On the monotonic clock."""
    started: bool = False
    """Whether a thread has taken it up."""
    given_up: bool = False


class Outcome(Struct, frozen=True):
    """What became of an attempt."""

    attempt: Attempt
    result: VendorResponse | TransportError


class Senders:
    """Up to `concurrency` calls at a time, each on a thread of its own, started when first needed.

    Used by one dispatcher; only the queues are shared with the threads.
    """

    _work: queue.SimpleQueue[Attempt | None]
    _done: queue.SimpleQueue[Outcome]

    def __init__(self, transport: Transport, *, name: str, wake: Wake) -> None:
        self._transport = transport
        self._name = name
        self._wake = wake
        self._renew()
        self._flying: list[Attempt] = []
        self._stuck: list[Attempt] = []
        self._threads = 0

    @property
    def in_flight(self) -> int:
        """Calls on their way, given-up ones that still hold a thread included."""
        return len(self._flying) + len(self._stuck)

    @property
    def next_deadline(self) -> float:
        """When the first of them will be given up."""
        return min((attempt.deadline for attempt in self._flying), default=float("inf"))

    def prepare(self) -> None:
        """Start the first thread, while the interpreter still starts any.

        Raises:
            RuntimeError: It does not.
        """
        if not self._threads:
            if not self.in_flight:
                self._renew()
            self._start()

    def launch(self, call: VendorRequest, limits: TimeLimits) -> Attempt:
        """Send the call on one of the threads; on this one if there is none, and none can be started."""
        attempt = Attempt(call, limits, time.monotonic() + limits.total + _GRACE)
        self._flying.append(attempt)
        if self._threads < self.in_flight:
            try:
                self._start()
            except RuntimeError:  # the interpreter is shutting down, or lets no threads run
                if self._threads <= len(self._stuck):
                    attempt.started = True
                    self._done.put(Outcome(attempt, self._send(attempt)))
                    self._wake.set()
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
        outcomes += [self._give_up(attempt) for attempt in list(self._flying) if attempt.deadline <= now]
        if self._stuck and not self._flying:
            self._leave_behind()
        return outcomes

    def stop(self) -> None:
        """End the threads, without waiting for those that hang."""
        self._leave_behind()

    def _give_up(self, attempt: Attempt) -> Outcome:
        attempt.given_up = True
        self._flying.remove(attempt)
        if not attempt.started:
            return Outcome(attempt, NotSent("no thread was free to send it"))
        self._stuck.append(attempt)
        return Outcome(attempt, OutcomeUnknown(f"no reply within {attempt.limits.total:g} s"))

    def _leave_behind(self) -> None:
        """Cut the connections, and let the threads end when they notice; new ones are started afresh."""
        self._transport.close()
        left, self._work = self._work, queue.SimpleQueue()  # theirs alone, so that they take no new work
        for _ in range(self._threads):
            left.put(None)
        self._threads = 0
        self._stuck.clear()

    def _renew(self) -> None:
        """Take the kind of queue that fits the threads of now, as `Wake` does."""
        self._work = queue.SimpleQueue()
        self._done = queue.SimpleQueue()

    def _start(self) -> None:
        if not threads.run():
            raise RuntimeError("threads do not run here")
        threads.start(threading.Thread(target=self._run, args=(self._work,), name=f"{self._name}-sender", daemon=True))
        self._threads += 1

    def _run(self, work: queue.SimpleQueue[Attempt | None]) -> None:
        while (attempt := work.get()) is not None:
            attempt.started = True
            if not attempt.given_up:
                self._done.put(Outcome(attempt, self._send(attempt)))
                self._wake.set()

    def _send(self, attempt: Attempt) -> VendorResponse | TransportError:
        try:
            return self._transport.send(attempt.call, attempt.limits)
        except TransportError as error:
            return error
        except ConfigurationError as error:
            return Unsendable(str(error))
        except KeyboardInterrupt:  # only where the call is sent on the main thread
            raise
        except BaseException as error:  # a transport of the user's, or a fault of ours: never lose the call
            return OutcomeUnknown(f"{type(error).__name__} in the transport")
