from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sessionsight.delivery.httpx_transport import HttpxTransport
from sessionsight.delivery.sender_pool import Attempt, Result, Sender, SenderPool, _Work
from sessionsight.delivery.threads import WakeEvent
from sessionsight.delivery.transport import InvalidCall, NotSent, OutcomeUnknown, TimeLimits
from sessionsight.destinations.base import VendorRequest, VendorResponse
from sessionsight.errors import ConfigurationError
from tests.core.delivery.kit import event
from tests.support.server import PATIENCE, Server, after, drip, reply, silence, until

AMPLE = TimeLimits(connect=PATIENCE, read=PATIENCE, total=PATIENCE)


def call(url: str = "http://127.0.0.1:1") -> VendorRequest:
    return VendorRequest(url=url, headers={}, body=b"", entries=[event()])


class Scripted:
    """A transport that calls a function."""

    def __init__(self, function: Callable[[], VendorResponse]) -> None:
        self.function = function
        self.closed = 0

    def send(self, call: VendorRequest, limits: TimeLimits) -> VendorResponse:
        return self.function()

    def close(self) -> None:
        self.closed += 1


class OneSender(Sender):
    """A sender with a pool of its own."""

    def __init__(self, transport: Any, wake: Callable[[], object]) -> None:
        self.pool = SenderPool()
        super().__init__(transport, self.pool, wake)

    def stop(self) -> None:
        self.pool.stop()
        self.close()


def senders(transport: Any) -> tuple[OneSender, WakeEvent]:
    wake = WakeEvent()
    return OneSender(transport, wake.set), wake


def results(pool: Sender, wake: WakeEvent, number: int) -> list[tuple[Attempt, Result]]:
    completed: list[tuple[Attempt, Result]] = []
    while len(completed) < number:
        assert wake.wait(PATIENCE), f"only {len(completed)} calls completed"
        completed += pool.completed()
    return completed


def threads() -> int:
    return sum(thread.name == "sessionsight-sender" for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    until(lambda: threads() == 0, "all threads have ended")


def no_new_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", start)


def test_calls_are_sent_in_parallel_each_on_its_own_thread() -> None:
    together = threading.Barrier(8)

    def send() -> VendorResponse:
        together.wait(PATIENCE)
        return VendorResponse(status=200)

    pool, wake = senders(Scripted(send))
    attempts = [pool.submit(call(), AMPLE) for _ in range(8)]

    completed = results(pool, wake, 8)

    assert {id(attempt) for attempt, _ in completed} == {id(attempt) for attempt in attempts}
    assert pool.in_flight == 0
    pool.stop()
    until(lambda: threads() == 0, "the threads have ended")


def test_threads_are_reused() -> None:
    pool, wake = senders(Scripted(lambda: VendorResponse(status=200)))
    for _ in range(20):
        pool.submit(call(), AMPLE)
        results(pool, wake, 1)

    assert threads() == 1
    pool.stop()
    until(lambda: threads() == 0, "the thread has ended")


@pytest.mark.parametrize(
    ("error", "becomes"),
    [
        (NotSent("a"), NotSent),
        (OutcomeUnknown("a"), OutcomeUnknown),
        (InvalidCall("a"), InvalidCall),
        (ConfigurationError("set SIGNAL_API_KEY"), InvalidCall),
        (ValueError("with a secret"), OutcomeUnknown),
        (SystemExit(1), OutcomeUnknown),
    ],
)
def test_a_call_completes_for_any_exception_of_a_transport(error: BaseException, becomes: type[Exception]) -> None:
    def send() -> VendorResponse:
        raise error

    pool, wake = senders(Scripted(send))
    pool.submit(call(), AMPLE)
    [(_, result)] = results(pool, wake, 1)

    assert type(result) is becomes
    assert "secret" not in str(result)
    pool.submit(call(), AMPLE)
    assert len(results(pool, wake, 1)) == 1, "the thread has survived"
    pool.stop()


def test_a_call_that_hangs_times_out_and_its_late_reply_is_discarded() -> None:
    late = threading.Event()

    def send() -> VendorResponse:
        late.wait(PATIENCE)
        return VendorResponse(status=200)

    pool, _ = senders(Scripted(send))
    attempt = pool.submit(call(), AMPLE)
    until(lambda: attempt.started, "the call is in flight")
    attempt.deadline = 0.0

    [(_, result)] = pool.completed()
    assert isinstance(result, OutcomeUnknown)
    assert pool.completed() == []

    late.set()
    until(lambda: bool(pool._done), "the late reply is there")
    assert pool.completed() == []
    assert pool.in_flight == 0
    pool.stop()


def test_a_call_after_one_that_hangs_is_sent_by_another_thread() -> None:
    hang = threading.Event()
    first = threading.Event()

    def send() -> VendorResponse:
        if not first.is_set():
            first.set()
            hang.wait(3 * PATIENCE)
        return VendorResponse(status=200)

    transport = Scripted(send)
    pool, wake = senders(transport)
    attempt = pool.submit(call(), AMPLE)
    first.wait(PATIENCE)
    attempt.deadline = 0.0
    pool.completed()
    assert transport.closed == 1, "its connection is shut down"
    assert pool.in_flight == 0

    pool.submit(call(), AMPLE)

    [(_, result)] = results(pool, wake, 1)
    assert isinstance(result, VendorResponse)
    hang.set()
    pool.stop()
    until(lambda: threads() == 0, "the blocked thread has ended too")


def test_a_call_that_hangs_does_not_abort_others() -> None:
    with Server() as server:
        good = threading.Event()
        server.will(silence(), after(good, reply(200)))
        transport = HttpxTransport(connections=2)
        pool, wake = senders(transport)
        hanging = pool.submit(call(server.url), AMPLE)
        server.wait_for(1)
        fine = pool.submit(call(server.url), AMPLE)
        server.wait_for(2)
        hanging.deadline = 0.0

        assert [attempt for attempt, _ in pool.completed()] == [hanging]
        assert pool.in_flight == 2, "it still holds its connection"
        good.set()

        [(attempt, result)] = results(pool, wake, 1)
        assert attempt is fine
        assert isinstance(result, VendorResponse)
        assert pool.in_flight == 0, "now it is aborted"
        pool.stop()
        until(lambda: threads() == 0, "the threads have ended")


@pytest.mark.parametrize(
    "answer",
    [silence(), drip(b"HTTP/1.1 200 OK\r\n", b"x-y: z\r\n"), drip(b"HTTP/1.1 200 OK\r\nx-y: ", b"z")],
    ids=["silence", "a-head-that-drips", "a-header-that-drips"],
)
def test_the_thread_of_a_call_that_timed_out_is_free_soon(answer: Any) -> None:
    with Server() as server:
        server.will(answer)
        pool, _ = senders(HttpxTransport())
        attempt = pool.submit(call(server.url), AMPLE)
        server.wait_for(1)
        attempt.deadline = 0.0

        [(_, result)] = pool.completed()

        assert isinstance(result, OutcomeUnknown)
        until(lambda: not pool.pool._running, "the thread is free")
        pool.stop()


def test_the_first_thread_can_be_started_before_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, wake = senders(Scripted(lambda: VendorResponse(status=200)))
    pool.pool.start()
    pool.pool.start()
    assert threads() == 1
    no_new_threads(monkeypatch)

    pool.submit(call(), AMPLE)
    pool.submit(call(), AMPLE)

    assert len(results(pool, wake, 2)) == 2
    pool.stop()


def test_without_threads_calls_are_sent_on_the_calling_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    no_new_threads(monkeypatch)
    pool, wake = senders(Scripted(lambda: VendorResponse(status=200)))
    with pytest.raises(RuntimeError):
        pool.pool.start()

    attempt = pool.submit(call(), AMPLE)

    assert [attempt for attempt, _ in results(pool, wake, 1)] == [attempt]
    pool.stop()


def test_a_call_that_times_out_in_the_queue_was_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    hang = threading.Event()
    sent: list[int] = []

    def send() -> VendorResponse:
        sent.append(1)
        hang.wait(PATIENCE)
        return VendorResponse(status=200)

    pool, wake = senders(Scripted(send))
    busy = pool.submit(call(), AMPLE)
    until(lambda: busy.started, "the thread is busy")
    no_new_threads(monkeypatch)

    waiting = pool.submit(call(), AMPLE)
    waiting.deadline = 0.0
    [(attempt, result)] = pool.completed()
    assert attempt is waiting
    assert isinstance(result, NotSent)

    hang.set()
    assert [attempt for attempt, _ in results(pool, wake, 1)] == [busy]
    pool.stop()
    until(lambda: threads() == 0, "the thread has ended")
    assert sent == [1], "it must not be sent once it counts as not sent"


def test_the_next_deadline_is_that_of_the_oldest_call() -> None:
    hang = threading.Event()

    def send() -> VendorResponse:
        hang.wait(PATIENCE)
        return VendorResponse(status=200)

    pool, _ = senders(Scripted(send))
    assert pool.next_deadline == float("inf")
    first: Attempt = pool.submit(call(), AMPLE)
    pool.submit(call(), TimeLimits(connect=1, read=1, total=10 * PATIENCE))

    assert time.monotonic() < pool.next_deadline == first.deadline
    hang.set()
    pool.stop()


# --- several hosts --------------------------------------------------------------------------------


class Hosts:
    """A pool of some threads, and calls to hosts that end when the test says so."""

    def __init__(self, max_threads: int) -> None:
        self.pool = SenderPool(max_threads=max_threads)
        self.wake = WakeEvent()
        self.sender = Sender(self, self.pool, self.wake.set)
        self.in_flight: dict[str, deque[threading.Event]] = {}
        self.changed = threading.Condition()

    def send(self, call: VendorRequest, limits: TimeLimits) -> VendorResponse:
        end = threading.Event()
        with self.changed:
            self.in_flight.setdefault(call.url, deque()).append(end)
            self.changed.notify_all()
        assert end.wait(3 * PATIENCE)
        return VendorResponse(status=200)

    def close(self) -> None:
        pass

    def submit(self, host: str, number: int = 1) -> list[Attempt]:
        return [self.sender.submit(call(f"http://{host}/"), AMPLE) for _ in range(number)]

    def wait_for(self, **expected: int) -> None:
        """Wait until exactly these calls are in flight."""

        def numbers() -> dict[str, int]:
            return {url.split("/")[2]: len(ends) for url, ends in self.in_flight.items() if ends}

        with self.changed:
            assert self.changed.wait_for(lambda: numbers() == expected, PATIENCE), numbers()

    def end(self, host: str) -> None:
        with self.changed:
            self.in_flight[f"http://{host}/"].popleft().set()


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    hosts = Hosts(max_threads=8)
    yield hosts
    hosts.pool.stop()
    for ends in hosts.in_flight.values():
        for end in ends:
            end.set()


def test_a_host_that_hangs_leaves_threads_for_all_others(hosts: Hosts) -> None:
    hosts.submit("dead", 20)
    hosts.wait_for(dead=4)

    hosts.submit("slow", 20)
    hosts.wait_for(dead=4, slow=2)
    hosts.submit("alive")

    hosts.wait_for(dead=4, slow=2, alive=1)


def test_waiting_calls_are_sent_when_others_have_completed_those_of_full_hosts_last(hosts: Hosts) -> None:
    hosts.submit("dead", 6)
    hosts.submit("alive", 4)
    hosts.wait_for(dead=4, alive=2)

    hosts.end("alive")
    hosts.wait_for(dead=4, alive=2)
    hosts.end("dead")
    hosts.wait_for(dead=3, alive=2)
    hosts.end("alive")
    hosts.wait_for(dead=3, alive=2)
    hosts.end("alive")
    hosts.wait_for(dead=3, alive=1)
    hosts.end("alive")

    hosts.wait_for(dead=4)
    assert threads() == 6


def test_there_are_never_more_threads_than_allowed(hosts: Hosts) -> None:
    for number in range(20):
        hosts.submit(f"host{number}")
    hosts.wait_for(**{f"host{number}": 1 for number in range(8)})

    hosts.end("host0")

    hosts.wait_for(**{f"host{number}": 1 for number in range(1, 9)})
    assert threads() == 8


def test_a_call_that_times_out_before_a_thread_is_free_is_not_sent(hosts: Hosts) -> None:
    hosts.submit("dead", 4)
    [late] = hosts.submit("dead")
    hosts.wait_for(dead=4)
    late.deadline = 0.0
    [(attempt, result)] = hosts.sender.completed()
    assert attempt is late
    assert isinstance(result, NotSent)

    hosts.end("dead")

    hosts.wait_for(dead=3)
    until(lambda: len(hosts.pool._running) == 3, "its place is free")


# --- WakeEvent ------------------------------------------------------------------------------------


def test_a_wake_event_that_is_already_set_wakes_at_once_and_only_once() -> None:
    wake = WakeEvent()
    wake.set()
    wake.set()

    assert wake.wait(PATIENCE)
    assert not wake.wait(0)


def test_a_wake_event_wakes_a_thread_that_waits_without_a_limit() -> None:
    wake = WakeEvent()
    sleeper = threading.Thread(target=wake.wait, args=(float("inf"),))
    sleeper.start()

    wake.set()

    sleeper.join(PATIENCE)
    assert not sleeper.is_alive()


def test_a_late_result_frees_its_thread_while_others_are_busy() -> None:
    first, second = threading.Event(), threading.Event()
    waits = iter([first, second])

    def send() -> VendorResponse:
        assert next(waits).wait(PATIENCE)
        return VendorResponse(status=200)

    pool, wake = senders(Scripted(send))
    late = pool.submit(call(), TimeLimits(connect=0.0, read=0.0, total=0.0))
    until(lambda: late.started, "it is being sent")
    pool.submit(call(), AMPLE)
    [(attempt, result)] = first_results(pool)
    assert (attempt, type(result), pool.in_flight) == (late, OutcomeUnknown, 2)

    first.set()
    assert wake.wait(PATIENCE)
    assert pool.completed() == []
    assert pool.in_flight == 1

    second.set()
    assert len(results(pool, wake, 1)) == 1
    pool.stop()


def first_results(pool: Sender) -> list[tuple[Attempt, Result]]:
    """Return the first results that there are."""
    completed: list[tuple[Attempt, Result]] = []

    def there_is_one() -> bool:
        completed.extend(pool.completed())
        return bool(completed)

    until(there_is_one, "a call has completed")
    return completed


def test_a_thread_that_takes_one_of_several_calls_wakes_the_next_thread() -> None:
    """The event is set once, however many calls were put in meanwhile."""
    work = _Work()
    work.put(None)
    work.put(None)

    assert work.get() is work.get() is None
    assert not work._event.wait(0)
