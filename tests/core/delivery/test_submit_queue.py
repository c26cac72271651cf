"""The way in, by itself: batches out of any thread, in order, each once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import pytest

from sessionsight.capture.interfaces import Batch
from sessionsight.capture.records import DropReason
from sessionsight.delivery import threads
from sessionsight.delivery.submit_queue import SubmitQueue
from sessionsight.request.context import EMPTY_CONTEXT
from tests.core.delivery.kit import event
from tests.support.server import PATIENCE, until

LONG = 3600.0


def batch(name: str = "seen") -> Batch:
    return Batch([event(name).record], EMPTY_CONTEXT)


def unheard(error: BaseException) -> None:
    raise AssertionError("nothing goes wrong") from error


class Taker:
    """Keeps the labels of what it takes, and on which threads it did."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.threads: set[threading.Thread] = set()

    def __call__(self, batches: Sequence[Batch]) -> None:
        self.taken += [record.label for one in batches for record in one.records]
        self.threads.add(threading.current_thread())


@pytest.fixture
def taker() -> Taker:
    return Taker()


@pytest.fixture
def make(taker: Taker) -> Iterator[Callable[..., SubmitQueue]]:
    made: list[SubmitQueue] = []

    def make(linger: float = 0.0) -> SubmitQueue:
        made.append(SubmitQueue(taker, unheard, linger=linger))
        return made[-1]

    yield make
    for intake in made:
        thread = intake._thread
        intake.stop()
        if thread is not None:
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_what_is_put_in_is_taken_by_a_thread_of_its_own(make: Callable[..., SubmitQueue], taker: Taker) -> None:
    intake = make()

    intake.put(batch("a"))

    until(lambda: taker.taken == ["a"], "it is taken")
    assert taker.threads == {intake._thread}


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_the_thread_tells_of_a_fault_and_goes_on(taker: Taker, error: type[BaseException]) -> None:
    told: list[BaseException] = []

    def failing(batches: Sequence[Batch]) -> None:
        taker(batches)
        if taker.taken == ["a"]:
            raise error

    intake = SubmitQueue(failing, told.append, linger=0)
    intake.put(batch("a"))
    until(lambda: len(told) == 1, "it is told")
    thread = intake._thread

    intake.put(batch("b"))

    until(lambda: taker.taken == ["a", "b"], "the next one is taken")
    assert type(told[0]) is error
    assert taker.threads == {thread}
    intake.stop()
    assert thread is not None
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_no_thread_is_started_before_something_is_put_in(make: Callable[..., SubmitQueue]) -> None:
    assert make()._thread is None


def test_draining_takes_at_once_what_the_thread_lets_gather(make: Callable[..., SubmitQueue], taker: Taker) -> None:
    intake = make(linger=LONG)
    for name in "abc":
        intake.put(batch(name))

    assert intake.drain()

    assert taker.taken == ["a", "b", "c"]
    assert taker.threads == {threading.current_thread()}
    assert not intake.drain()


def test_a_drain_waits_for_the_one_that_is_under_way(taker: Taker) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def slow(batches: Sequence[Batch]) -> None:
        entered.set()
        assert go_on.wait(PATIENCE)
        taker(batches)

    intake = SubmitQueue(slow, unheard, linger=LONG)
    intake.put(batch("a"))
    first = threading.Thread(target=intake.drain)
    first.start()
    assert entered.wait(PATIENCE)

    def drain() -> None:
        intake.drain()
        taker.taken.append("drained")

    second = threading.Thread(target=drain)
    second.start()
    go_on.set()
    second.join(PATIENCE)
    first.join(PATIENCE)

    assert taker.taken == ["a", "drained"]
    intake.stop()


def test_who_puts_in_more_than_the_thread_keeps_up_with_does_the_work(
    make: Callable[..., SubmitQueue], taker: Taker
) -> None:
    intake = make(linger=LONG)

    for _ in range(5_000):
        intake.put(batch())

    assert len(taker.taken) >= 2_000
    assert taker.threads == {threading.current_thread()}


def test_many_threads_put_in_and_each_batch_is_taken_once(make: Callable[..., SubmitQueue], taker: Taker) -> None:
    intake = make()

    def put(name: str) -> None:
        for number in range(300):
            intake.put(batch(f"{name}{number}"))

    putting = [threading.Thread(target=put, args=(name,)) for name in "abcdefgh"]
    for thread in putting:
        thread.start()
    for thread in putting:
        thread.join(PATIENCE)
    intake.drain()

    assert len(taker.taken) == len(set(taker.taken)) == 8 * 300


def test_after_stopping_each_batch_is_taken_at_once(make: Callable[..., SubmitQueue], taker: Taker) -> None:
    intake = make(linger=LONG)
    intake.put(batch("before"))

    intake.stop()
    intake.put(batch("after"))

    assert taker.taken == ["before", "after"]


def test_where_no_threads_run_each_batch_is_taken_at_once(
    make: Callable[..., SubmitQueue], taker: Taker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "available", lambda: False)
    intake = make(linger=LONG)

    intake.put(batch("a"))

    assert taker.taken == ["a"]


def test_a_signal_handler_may_drain_in_the_midst_of_a_drain(make: Callable[..., SubmitQueue], taker: Taker) -> None:
    class Interrupted(deque[Batch]):
        """Between two batches a signal handler of the same thread drains the rest."""

        def popleft(self) -> Batch:
            batch = super().popleft()
            if len(self) == 2:
                intake.drain()
            return batch

    intake = make(linger=LONG)
    intake._inbox = Interrupted(batch(name) for name in "abcd")

    intake.drain()

    assert sorted(taker.taken) == ["a", "b", "c", "d"]


def test_one_batch_may_be_put_in_while_another_is_taken_on_the_same_thread(taker: Taker) -> None:
    def taking(batches: Sequence[Batch]) -> None:
        if not taker.taken:
            taker.taken.append("interrupted")
            intake.put(batch("from a signal handler"))
            intake.drain()
        taker(batches)

    intake = SubmitQueue(taking, unheard, linger=LONG)
    intake.put(batch("a"))

    intake.drain()

    assert taker.taken == ["interrupted", "from a signal handler", "a"]
    intake.stop()


def test_a_batch_has_its_reason_to_be_dropped_or_its_contexts() -> None:
    refused = Batch([], lambda: (EMPTY_CONTEXT, DropReason.CONSENT))

    assert refused.resolve() == (EMPTY_CONTEXT, DropReason.CONSENT)
    assert Batch([], refused.context, drop=DropReason.CHOICE_ERROR).resolve()[1] is DropReason.CHOICE_ERROR
