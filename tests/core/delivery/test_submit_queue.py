"""The submit queue: batches from any thread are processed in order, each once."""

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


class Processor:
    """Records the labels of processed batches, and the threads on which they were processed."""

    def __init__(self) -> None:
        self.processed: list[str] = []
        self.threads: set[threading.Thread] = set()

    def __call__(self, batches: Sequence[Batch]) -> None:
        self.processed += [record.label for one in batches for record in one.records]
        self.threads.add(threading.current_thread())


@pytest.fixture
def processor() -> Processor:
    return Processor()


@pytest.fixture
def make(processor: Processor) -> Iterator[Callable[..., SubmitQueue]]:
    made: list[SubmitQueue] = []

    def make(linger: float = 0.0) -> SubmitQueue:
        made.append(SubmitQueue(processor, unheard, linger=linger))
        return made[-1]

    yield make
    for submit_queue in made:
        thread = submit_queue._thread
        submit_queue.stop()
        if thread is not None:
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_batches_are_processed_on_the_queues_thread(make: Callable[..., SubmitQueue], processor: Processor) -> None:
    submit_queue = make()

    submit_queue.put(batch("a"))

    until(lambda: processor.processed == ["a"], "it is processed")
    assert processor.threads == {submit_queue._thread}


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_the_thread_reports_an_exception_and_continues(processor: Processor, error: type[BaseException]) -> None:
    told: list[BaseException] = []

    def failing(batches: Sequence[Batch]) -> None:
        processor(batches)
        if processor.processed == ["a"]:
            raise error

    submit_queue = SubmitQueue(failing, told.append, linger=0)
    submit_queue.put(batch("a"))
    until(lambda: len(told) == 1, "it is reported")
    thread = submit_queue._thread

    submit_queue.put(batch("b"))

    until(lambda: processor.processed == ["a", "b"], "the next one is processed")
    assert type(told[0]) is error
    assert processor.threads == {thread}
    submit_queue.stop()
    assert thread is not None
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_no_thread_is_started_before_the_first_batch(make: Callable[..., SubmitQueue]) -> None:
    assert make()._thread is None


def test_draining_processes_lingering_batches_at_once(make: Callable[..., SubmitQueue], processor: Processor) -> None:
    submit_queue = make(linger=LONG)
    for name in "abc":
        submit_queue.put(batch(name))

    assert submit_queue.drain()

    assert processor.processed == ["a", "b", "c"]
    assert processor.threads == {threading.current_thread()}
    assert not submit_queue.drain()


def test_a_drain_waits_for_another_in_progress(processor: Processor) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def slow(batches: Sequence[Batch]) -> None:
        entered.set()
        assert go_on.wait(PATIENCE)
        processor(batches)

    submit_queue = SubmitQueue(slow, unheard, linger=LONG)
    submit_queue.put(batch("a"))
    first = threading.Thread(target=submit_queue.drain)
    first.start()
    assert entered.wait(PATIENCE)

    def drain() -> None:
        submit_queue.drain()
        processor.processed.append("drained")

    second = threading.Thread(target=drain)
    second.start()
    go_on.set()
    second.join(PATIENCE)
    first.join(PATIENCE)

    assert processor.processed == ["a", "drained"]
    submit_queue.stop()


def test_put_drains_the_queue_when_the_thread_does_not_keep_up(
    make: Callable[..., SubmitQueue], processor: Processor
) -> None:
    submit_queue = make(linger=LONG)

    for _ in range(5_000):
        submit_queue.put(batch())

    assert len(processor.processed) >= 2_000
    assert processor.threads == {threading.current_thread()}


def test_each_batch_of_many_threads_is_processed_once(make: Callable[..., SubmitQueue], processor: Processor) -> None:
    submit_queue = make()

    def put(name: str) -> None:
        for number in range(300):
            submit_queue.put(batch(f"{name}{number}"))

    putting = [threading.Thread(target=put, args=(name,)) for name in "abcdefgh"]
    for thread in putting:
        thread.start()
    for thread in putting:
        thread.join(PATIENCE)
    submit_queue.drain()

    assert len(processor.processed) == len(set(processor.processed)) == 8 * 300


def test_after_stopping_each_batch_is_processed_in_put(make: Callable[..., SubmitQueue], processor: Processor) -> None:
    submit_queue = make(linger=LONG)
    submit_queue.put(batch("before"))

    submit_queue.stop()
    submit_queue.put(batch("after"))

    assert processor.processed == ["before", "after"]


def test_without_threads_each_batch_is_processed_in_put(
    make: Callable[..., SubmitQueue], processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "available", lambda: False)
    submit_queue = make(linger=LONG)

    submit_queue.put(batch("a"))

    assert processor.processed == ["a"]


def test_a_signal_handler_may_drain_during_a_drain(make: Callable[..., SubmitQueue], processor: Processor) -> None:
    class Interrupted(deque[Batch]):
        """Between two batches a signal handler of the same thread drains the rest."""

        def popleft(self) -> Batch:
            batch = super().popleft()
            if len(self) == 2:
                submit_queue.drain()
            return batch

    submit_queue = make(linger=LONG)
    submit_queue._inbox = Interrupted(batch(name) for name in "abcd")

    submit_queue.drain()

    assert sorted(processor.processed) == ["a", "b", "c", "d"]


def test_a_batch_may_be_put_while_another_is_processed_on_the_same_thread(processor: Processor) -> None:
    def taking(batches: Sequence[Batch]) -> None:
        if not processor.processed:
            processor.processed.append("interrupted")
            submit_queue.put(batch("from a signal handler"))
            submit_queue.drain()
        processor(batches)

    submit_queue = SubmitQueue(taking, unheard, linger=LONG)
    submit_queue.put(batch("a"))

    submit_queue.drain()

    assert processor.processed == ["interrupted", "from a signal handler", "a"]
    submit_queue.stop()


def test_a_batch_has_a_drop_reason_of_its_own_or_of_its_context() -> None:
    refused = Batch([], lambda: (EMPTY_CONTEXT, DropReason.CONSENT))

    assert refused.resolve() == (EMPTY_CONTEXT, DropReason.CONSENT)
    assert Batch([], refused.context, drop=DropReason.CHOICE_ERROR).resolve()[1] is DropReason.CHOICE_ERROR


def test_periodic_work_that_fails_is_reported_and_done_again(processor: Processor) -> None:
    told: list[BaseException] = []
    done: list[str] = []

    def tick() -> float | None:
        done.append("tick")
        if len(done) == 1:
            raise ZeroDivisionError
        return None

    submit_queue = SubmitQueue(processor, told.append, linger=0.0, tick=tick)
    submit_queue.call_later(0.0)
    until(lambda: len(done) == 1, "it is done")
    submit_queue.call_later(0.0)
    until(lambda: len(done) == 2, "it is done again")
    submit_queue.stop()

    assert [type(error) for error in told] == [ZeroDivisionError]
