"""Threads that send calls and wait for the replies, so that the dispatcher thread never blocks.

All lanes of a client share them. A host may occupy half of the threads that the other hosts leave free, so that calls
to a dead one never occupy all of them, however many lanes it has.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

from msgspec import Struct

from sessionsight.delivery import threads
from sessionsight.delivery.transport import (
    InvalidCall,
    NotSent,
    OutcomeUnknown,
    TimeLimits,
    Transport,
    TransportError,
    compress,
)
from sessionsight.destinations.base import VendorRequest, VendorResponse
from sessionsight.errors import ConfigurationError

__all__ = ["Attempt", "Sender", "SenderPool"]

# Threads of one client.
_MAX_THREADS = 64
# Seconds that the transport has to time a call out itself.
_GRACE = 0.5

Result = VendorResponse | TransportError


class Attempt(Struct, eq=False):
    """A call that is queued or in flight."""

    sender: Sender
    call: VendorRequest
    limits: TimeLimits
    host: str
    deadline: float
    """On the monotonic clock."""
    started: bool = False
    """True once a thread has begun to send it."""
    abandoned: bool = False
    """True once it has timed out."""


class Sender:
    """The calls of one lane that are in flight, used by the dispatcher thread.

    A call that exceeds its deadline (a slow name server, a reply that drips) is timed out: its outcome is unknown from
    then on, and any later result from its thread is discarded.

    Args:
        transport: Sends the calls of this lane.
        pool: Its threads do that.
        wake: Called on a thread of the pool when a call has completed.
        gzip_above: Bytes of a body above which it is compressed; None for never.
    """

    def __init__(
        self, transport: Transport, pool: SenderPool, wake: Callable[[], object], *, gzip_above: int | None = None
    ) -> None:
        self._transport = transport
        self._pool = pool
        self._wake = wake
        self._gzip_above = gzip_above
        self._done: deque[tuple[Attempt, Result]] = deque()
        self._in_flight: list[Attempt] = []
        self._timed_out: list[Attempt] = []

    @property
    def in_flight(self) -> int:
        """Number of calls in flight, including timed-out ones that still occupy a thread."""
        return len(self._in_flight) + len(self._timed_out)

    @property
    def next_deadline(self) -> float:
        """When the next call times out, on the monotonic clock."""
        return min((attempt.deadline for attempt in self._in_flight), default=float("inf"))

    def submit(self, call: VendorRequest, limits: TimeLimits) -> Attempt:
        """Send the call on a thread of the pool, or on the calling thread where no thread can be started."""
        host = urlsplit(call.url).netloc
        attempt = Attempt(self, call, limits, host, time.monotonic() + limits.total + _GRACE)
        self._in_flight.append(attempt)
        self._pool.submit(attempt)
        return attempt

    def completed(self) -> list[tuple[Attempt, Result]]:
        """Return the calls that have completed or timed out since the last call, each once, with their results."""
        if not (self._in_flight or self._timed_out):
            return []
        completed: list[tuple[Attempt, Result]] = []
        while self._done:
            attempt, result = self._done.popleft()
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
            # Ends the waits of their threads; a thread that does not notice it is replaced by another.
            self.close()
        return completed

    def close(self) -> None:
        """Shut down the connections, without waiting for calls in flight; later calls open new ones."""
        self._transport.close()
        self._timed_out.clear()

    def send(self, attempt: Attempt) -> None:
        """Send a call, and report its result. Called on a thread of the pool."""
        result = self._send(attempt)
        self._pool.free(attempt)  # before the dispatcher is woken, which may need the thread for the next call
        self._done.append((attempt, result))
        self._wake()

    def _send(self, attempt: Attempt) -> Result:
        try:
            return self._transport.send(compress(attempt.call, self._gzip_above), attempt.limits)
        except TransportError as error:
            return error
        except ConfigurationError as error:
            return InvalidCall(str(error))
        except KeyboardInterrupt:  # only if the call is sent on the main thread
            self._pool.free(attempt)
            raise
        except BaseException as error:  # a custom transport, or a bug: the call must not be lost
            return OutcomeUnknown(f"{type(error).__name__} in the transport")

    def _time_out(self, attempt: Attempt) -> Result:
        attempt.abandoned = True
        self._in_flight.remove(attempt)
        if not attempt.started:
            return NotSent("no thread was free to send it")
        self._timed_out.append(attempt)
        return OutcomeUnknown(f"no reply within {attempt.limits.total:g} s")


class _Work:
    """The calls that threads are to send, each by one of them; `None` ends a thread."""

    def __init__(self) -> None:
        self._items: deque[Attempt | None] = deque()
        self._event = threads.WakeEvent()

    def put(self, item: Attempt | None) -> None:
        self._items.append(item)
        self._event.set()

    def get(self) -> Attempt | None:
        while True:
            self._event.wait()
            with suppress(IndexError):  # woken for nothing
                item = self._items.popleft()
                if self._items:
                    self._event.set()  # wakes one thread, however many items were put in meanwhile
                return item


class SenderPool:
    """The sender threads of one client. A thread is started whenever a call finds none that is free."""

    def __init__(self, *, max_threads: int = _MAX_THREADS) -> None:
        self._max_threads = max_threads
        self._work = _Work()
        # Re-entrant: a signal handler or a finalizer may end a client while this thread holds it.
        self._lock = threading.RLock()
        self._threads = 0
        self._running: list[Attempt] = []
        self._waiting: deque[Attempt] = deque()

    def start(self) -> None:
        """Start the first thread, unless there is one.

        Raises:
            RuntimeError: The interpreter is shutting down and starts no threads.
        """
        with self._lock:
            if not self._threads:
                self._work = _Work()  # gevent may have replaced the class of its lock
                self._start_thread()

    def submit(self, attempt: Attempt) -> None:
        """Send a call on a free thread, or as soon as one is free."""
        with self._lock:
            if not self._has_room(attempt.host):
                self._waiting.append(attempt)
                return
            self._running.append(attempt)
            has_thread = self._provide_thread()
        if has_thread:
            self._work.put(attempt)
        else:
            self._run_one(attempt)

    def free(self, attempt: Attempt) -> None:
        """Mark the thread of this call as free, and let it send the next one that waits."""
        with self._lock:
            self._running.remove(attempt)
            following = self._pop_waiting() if self._waiting else None
            if following is not None:
                self._running.append(following)
        if following is not None:
            self._work.put(following)

    def stop(self) -> None:
        """End the threads, without waiting for those that are blocked. Calls that wait are not sent."""
        with self._lock:
            self._waiting.clear()
            number, self._threads = self._threads, 0
            work, self._work = self._work, _Work()
        for _ in range(number):
            work.put(None)

    def _pop_waiting(self) -> Attempt | None:
        """Remove and return the first waiting call to a host that may occupy one more thread."""
        full: set[str] = set()
        for attempt in self._waiting:
            if attempt.host not in full and (attempt.abandoned or self._has_room(attempt.host)):
                self._waiting.remove(attempt)
                return attempt
            full.add(attempt.host)
        return None

    def _has_room(self, host: str) -> bool:
        """Return whether a call to this host may occupy one more thread."""
        same = sum(attempt.host == host for attempt in self._running)
        others = len(self._running) - same
        return same < max((self._max_threads - others) // 2, 1) and same + others < self._max_threads

    def _provide_thread(self) -> bool:
        """Start a thread if none is free for the newest call. Return False if the caller has to send it."""
        if self._threads >= len(self._running):
            return True
        try:
            self._start_thread()
        except RuntimeError:  # the interpreter is shutting down, or the host runs no threads
            return self._threads > sum(attempt.abandoned for attempt in self._running)
        return True

    def _start_thread(self) -> None:
        if not threads.available():
            raise RuntimeError("the host runs no threads")
        threads.start_in_empty_context(
            threading.Thread(target=self._run, args=(self._work,), name="sessionsight-sender", daemon=True)
        )
        self._threads += 1

    def _run(self, work: _Work) -> None:
        while (attempt := work.get()) is not None:
            self._run_one(attempt)

    def _run_one(self, attempt: Attempt) -> None:
        attempt.started = True
        if attempt.abandoned:
            self.free(attempt)
        else:
            attempt.sender.send(attempt)
