"""Threads that send calls and wait for the replies, so that a lane's dispatcher never blocks.

A call that exceeds its deadline (a slow name server, a reply that drips) is timed out: its outcome is unknown from
then on, and any later result from its thread is discarded.
"""

from __future__ import annotations

import queue
import threading
import time

from msgspec import Struct

from sessionsight.delivery import threads
from sessionsight.delivery.threads import WakeEvent
from sessionsight.delivery.transport import (
    InvalidCall,
    NotSent,
    OutcomeUnknown,
    TimeLimits,
    Transport,
    TransportError,
)
from sessionsight.destinations.base import VendorRequest, VendorResponse
from sessionsight.errors import ConfigurationError

__all__ = ["Attempt", "SenderPool"]

# Seconds that the transport has to time a call out itself.
_GRACE = 0.5


class Attempt(Struct, eq=False):
    """Handle of a call that is queued or in flight."""

    timeout: float
    """Seconds that the call may take."""
    deadline: float
    """On the monotonic clock."""
    started: bool = False
    """True once a thread has begun to send it."""
    abandoned: bool = False
    """True once it has timed out."""


Result = VendorResponse | TransportError
_Work = tuple[Attempt, VendorRequest, TimeLimits]


class SenderPool:
    """Thread pool of one lane. A thread is started whenever a call finds none that is free.

    Used by one dispatcher; only the queues are shared with the threads.
    """

    _work: queue.SimpleQueue[_Work | None]
    _done: queue.SimpleQueue[tuple[Attempt, Result]]

    def __init__(self, transport: Transport, *, name: str, wake: WakeEvent) -> None:
        self._transport = transport
        self._name = name
        self._wake = wake
        self._reset_queues()
        self._in_flight: list[Attempt] = []
        self._timed_out: list[Attempt] = []
        self._threads = 0

    @property
    def in_flight(self) -> int:
        """Number of calls in flight, including timed-out ones that still occupy a thread."""
        return len(self._in_flight) + len(self._timed_out)

    @property
    def next_deadline(self) -> float:
        """When the next call times out, on the monotonic clock."""
        return min((attempt.deadline for attempt in self._in_flight), default=float("inf"))

    def start(self) -> None:
        """Start the first thread, unless there is one.

        Raises:
            RuntimeError: The interpreter is shutting down and starts no threads.
        """
        if not self._threads:
            if not self.in_flight:
                self._reset_queues()
            self._start_thread()

    def submit(self, call: VendorRequest, limits: TimeLimits) -> Attempt:
        """Send the call on a thread of the pool, or on the calling thread where no thread can be started."""
        attempt = Attempt(limits.total, time.monotonic() + limits.total + _GRACE)
        self._in_flight.append(attempt)
        if self._threads < self.in_flight:
            try:
                self._start_thread()
            except RuntimeError:  # the interpreter is shutting down, or the host runs no threads
                if self._threads <= len(self._timed_out):
                    attempt.started = True
                    self._done.put((attempt, self._send(call, limits)))
                    self._wake.set()
                    return attempt
        self._work.put((attempt, call, limits))
        return attempt

    def completed(self) -> list[tuple[Attempt, Result]]:
        """Return the calls that have completed or timed out since the last call, each once, with their results."""
        completed: list[tuple[Attempt, Result]] = []
        while not self._done.empty():
            attempt, result = self._done.get()
            if attempt in self._in_flight:
                self._in_flight.remove(attempt)
                completed.append((attempt, result))
            elif attempt in self._timed_out:
                self._timed_out.remove(attempt)
        now = time.monotonic()
        completed += [
            (attempt, self._time_out(attempt)) for attempt in list(self._in_flight) if attempt.deadline <= now
        ]
        if self._timed_out and not self._in_flight:
            self._abandon_threads()
        return completed

    def stop(self) -> None:
        """End the threads, without waiting for those that are blocked."""
        self._abandon_threads()

    def _time_out(self, attempt: Attempt) -> Result:
        attempt.abandoned = True
        self._in_flight.remove(attempt)
        if not attempt.started:
            return NotSent("no thread was free to send it")
        self._timed_out.append(attempt)
        return OutcomeUnknown(f"no reply within {attempt.timeout:g} s")

    def _abandon_threads(self) -> None:
        """Shut down the connections, and let the threads end when they notice; later calls start new ones."""
        self._transport.close()
        left, self._work = self._work, queue.SimpleQueue()  # the threads keep the old one, so they get no new calls
        for _ in range(self._threads):
            left.put(None)
        self._threads = 0
        self._timed_out.clear()

    def _reset_queues(self) -> None:
        """Create the queues again, because gevent may have replaced their class."""
        self._work = queue.SimpleQueue()
        self._done = queue.SimpleQueue()

    def _start_thread(self) -> None:
        if not threads.available():
            raise RuntimeError("the host runs no threads")
        threads.start_in_empty_context(
            threading.Thread(target=self._run, args=(self._work,), name=f"{self._name}-sender", daemon=True)
        )
        self._threads += 1

    def _run(self, work: queue.SimpleQueue[_Work | None]) -> None:
        while (item := work.get()) is not None:
            attempt, call, limits = item
            attempt.started = True
            if not attempt.abandoned:
                self._done.put((attempt, self._send(call, limits)))
                self._wake.set()

    def _send(self, call: VendorRequest, limits: TimeLimits) -> Result:
        try:
            return self._transport.send(call, limits)
        except TransportError as error:
            return error
        except ConfigurationError as error:
            return InvalidCall(str(error))
        except KeyboardInterrupt:  # only if the call is sent on the main thread
            raise
        except BaseException as error:  # a custom transport, or a bug: the call must not be lost
            return OutcomeUnknown(f"{type(error).__name__} in the transport")
