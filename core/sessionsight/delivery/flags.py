"""Asks SessionSight about feature flags, for callers that wait for the answer, though never for long.

The call runs on a thread of its own, so that the caller stops waiting on time whatever the network does. After a few
failures in a row the circuit opens: nobody waits, and only now and then one call tries the vendor again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, InvalidStateError
from functools import partial
from typing import Any, Generic, TypeVar
from weakref import finalize

from sessionsight.capture.interfaces import FlagDefinition, FlagValue
from sessionsight.delivery import threads
from sessionsight.delivery.httpx_transport import HttpxTransport
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.redaction import redact_secrets
from sessionsight.delivery.retry import SendGate, backoff, parse_retry_after
from sessionsight.delivery.transport import TimeLimits, Transport, TransportError
from sessionsight.destinations.base import Action, Destination, VendorRequest, Verdict
from sessionsight.destinations.sessionsight import SessionSight
from sessionsight.destinations.sessionsight_flags import (
    evaluation_request,
    list_request,
    read_definitions,
    read_evaluation,
)
from sessionsight.errors import ConfigurationError
from sessionsight.event_loop import LoopEvent
from sessionsight.log import LaneLogger, ThrottledLogger
from sessionsight.request.context import TrackingContext
from sessionsight.test_mode import test_mode

__all__ = ["FlagCircuit", "FlagService", "PendingCall"]

# Calls in flight; further ones have no answer at once. They share fewer connections, for which they wait.
_CALLS = 200
_CONNECTIONS = 16
# Consecutive failures after which the circuit opens, and the seconds until the next call, which double.
_FAILURES = 3
_FIRST_DELAY = 5.0
_LONGEST_DELAY = 60.0
_MAX_RESPONSE_BYTES = 1024 * 1024

_Answer = TypeVar("_Answer")


class PendingCall(Generic[_Answer]):
    """A call in flight. See `capture.interfaces.FlagCall`.

    Args:
        deadline: Time on the monotonic clock until which anybody waits.
        time_out: Resolves the call at the deadline.
    """

    def __init__(self, deadline: float, time_out: Callable[[PendingCall[_Answer]], None]) -> None:
        self._deadline = deadline
        self._time_out = time_out
        self._future: Future[_Answer] = Future()

    @classmethod
    def answered(cls, answer: _Answer) -> PendingCall[_Answer]:
        """Return a call that has its answer already."""
        call = cls(0.0, lambda _: None)
        call.resolve(answer)
        return call

    @property
    def done(self) -> bool:
        """True once there is an answer, which may be empty."""
        return self._future.done()

    def resolve(self, answer: _Answer) -> bool:
        """Set the answer; only the first one counts. Return whether this is it."""
        try:
            self._future.set_result(answer)
        except InvalidStateError:
            return False
        return True

    def wait(self) -> _Answer:
        """Block this thread until there is an answer, or the deadline is reached."""
        try:
            return self._future.result(self._left())
        except TimeoutError:
            self._time_out(self)
            return self._future.result()

    async def wait_async(self) -> _Answer:
        """As `wait`, without blocking the event loop."""
        if not self._future.done():
            event = LoopEvent()
            self._future.add_done_callback(lambda _: event.set())
            await event.wait(self._left())
            if not self._future.done():
                self._time_out(self)
        return self._future.result()

    def _left(self) -> float:
        return max(self._deadline - time.monotonic(), 0.0)


class FlagCircuit:
    """Calls one destination about flags, unless it has failed too often recently.

    Args:
        destination: Whom to ask.
        transport: Sends the calls. Its connections are closed with this object.
        options: Those of delivery; the pause of a rejected key and the longest `Retry-After` count here.
        logger: Where failures are logged.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self,
        destination: SessionSight,
        transport: Transport,
        options: DeliveryOptions,
        logger: ThrottledLogger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.destination = destination
        self._transport = transport
        self._options = options
        self._logger = LaneLogger(destination.name, logger)
        self._clock = clock
        self._lock = threading.Lock()
        self._in_flight = 0
        self._gate = SendGate(
            concurrency=_CALLS,
            calls_per_minute=None,
            failures_to_open=_FAILURES,
            delay_after=_delay_after,
            pause_interval=options.pause_interval,
        )
        finalize(self, _close, transport, os.getpid()).atexit = False

    def call(
        self, build: Callable[[SessionSight], VendorRequest], read: Callable[[bytes], _Answer], empty: _Answer
    ) -> PendingCall[_Answer]:
        """Start a call, without waiting.

        Args:
            build: Returns the request. Called on another thread, because reading the key may block.
            read: Returns the answer in a response's body; raises `ValueError` for an invalid one.
            empty: The answer if there is none.
        """
        with self._lock:
            if self._gate.delay(self._clock(), self._in_flight) > 0:
                return PendingCall.answered(empty)
            self._in_flight += 1
        timeout = self.destination.flags_timeout
        late = Verdict(action=Action.UNKNOWN, message=f"no answer within {timeout:g} s (flags_timeout)")
        pending: PendingCall[_Answer] = PendingCall(
            time.monotonic() + timeout, lambda call: self._resolve(call, empty, late)
        )
        run = partial(self._run, pending, build, read, empty)
        if not threads.available():
            run()
            return pending
        try:
            threads.start_in_empty_context(threading.Thread(target=run, name="sessionsight-flags", daemon=True))
        except RuntimeError:  # the interpreter is shutting down
            self._resolve(pending, empty, Verdict(action=Action.RETRY, message="no thread can be started"))
        return pending

    def _run(
        self,
        pending: PendingCall[_Answer],
        build: Callable[[SessionSight], VendorRequest],
        read: Callable[[bytes], _Answer],
        empty: _Answer,
    ) -> None:
        self._logger.flush_buffered()
        answer, retry_after = empty, None
        timeout = self.destination.flags_timeout
        try:
            request = build(self.destination)
            reply = self._transport.send(request, TimeLimits(connect=timeout, read=timeout, total=timeout))
            verdict = redact_secrets(self.destination.classify(request, reply), self.destination)
            retry_after = reply.headers.get("retry-after")
            if verdict.action is Action.DELIVERED:
                answer = read(reply.body)
        except ConfigurationError as error:  # the key cannot be read
            verdict = Verdict(action=Action.PAUSE, message=str(error))
        except TransportError as error:
            verdict = Verdict(action=Action.UNKNOWN, message=str(error))
        except Exception as error:
            verdict = Verdict(action=Action.UNKNOWN, message=f"the response is not valid ({type(error).__name__})")
        self._resolve(pending, answer, verdict, retry_after)

    def _resolve(
        self, pending: PendingCall[_Answer], answer: _Answer, verdict: Verdict, retry_after: str | None = None
    ) -> None:
        """Resolve the call, unless it is resolved already, and let the circuit know its outcome."""
        with self._lock:
            if not pending.resolve(answer):
                return
            self._in_flight -= 1
            now = self._clock()
            if verdict.action is Action.DELIVERED:
                self._gate.record_success()
                return
            if verdict.action is Action.PAUSE:
                self._gate.pause(now)
            else:
                delay = parse_retry_after(retry_after, now=time.time(), limit=self._options.retry_after_max)
                self._gate.record_failure(now, retry_after=delay)
        hint = "; check secret_api_key, property_id and api_url" if verdict.action is Action.PAUSE else ""
        self._logger.log(
            logging.WARNING, f"no feature flags, so defaults are used: {verdict.message}{hint}", key="flags"
        )


class FlagService:
    """Asks the SessionSight destinations of one client. See `capture.interfaces.FlagSource`."""

    def __init__(
        self,
        destinations: Iterable[Destination],
        options: DeliveryOptions,
        logger: ThrottledLogger,
        make_transport: Callable[[Destination], Transport] | None = None,
    ) -> None:
        self._logger = logger
        self._others = False
        self._circuits: dict[str, FlagCircuit] = {}
        for one in destinations:
            if isinstance(one, SessionSight):
                transport = _http_transport(options) if make_transport is None else make_transport(one)
                self._circuits[one.name] = FlagCircuit(one, transport, options, logger)
            else:
                self._others = True

    def evaluate(
        self, context: TrackingContext, attributes: Mapping[str, Any], destinations: frozenset[str] | None
    ) -> PendingCall[Mapping[str, FlagValue]]:
        """Evaluate all flags for a visitor, or return those that tests have set."""
        if (fixed := _fixed_by_tests()) is not None:
            return PendingCall.answered(fixed)
        circuit = self._circuit(destinations)
        if circuit is None:
            return PendingCall.answered({})
        return circuit.call(
            lambda destination: evaluation_request(destination, context, attributes), read_evaluation, {}
        )

    def list_definitions(self, destinations: frozenset[str] | None) -> PendingCall[tuple[FlagDefinition, ...]]:
        """Read the definitions of all flags; there are none while tests suppress delivery."""
        circuit = None if _fixed_by_tests() is not None else self._circuit(destinations)
        return PendingCall.answered(()) if circuit is None else circuit.call(list_request, read_definitions, ())

    def _circuit(self, destinations: frozenset[str] | None) -> FlagCircuit | None:
        """Return the first destination among these that can be asked."""
        for name, circuit in self._circuits.items():
            if destinations is None or name in destinations:
                return circuit
        if self._others and not self._circuits:  # without any destination, the client has logged that already
            self._logger.log(
                logging.WARNING, "no feature flags, so defaults are used: the destination sessionsight is missing"
            )
        return None


def _fixed_by_tests() -> Mapping[str, FlagValue] | None:
    return test_mode.flags if test_mode.active else None


def _close(transport: Transport, pid: int) -> None:
    if pid == os.getpid():  # the connections of a forked child are its parent's as well
        transport.close()


def _delay_after(failures: int) -> float:
    return backoff(failures - _FAILURES + 1, base=_FIRST_DELAY, limit=_LONGEST_DELAY, random=lambda: 1.0)


def _http_transport(options: DeliveryOptions) -> Transport:
    return HttpxTransport(
        connections=_CONNECTIONS,
        proxy=options.proxy,
        ca_bundle=options.ca_bundle,
        trust_env=options.trust_env,
        max_response_bytes=_MAX_RESPONSE_BYTES,
    )
