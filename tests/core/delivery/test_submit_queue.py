"""The submit queue: batches from any thread are processed in order, each once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

import pytest

from sessionsight.capture.interfaces import Batch
from sessionsight.capture.records import DropReason
from sessionsight.delivery.submit_queue import SubmitQueue
from sessionsight.request.context import EMPTY_CONTEXT
from tests.core.delivery.kit import event
from tests.support.server import PATIENCE


def batch(name: str = "seen") -> Batch:
    return Batch([event(name).record], EMPTY_CONTEXT)


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


def make(process: Callable[[Sequence[Batch]], None], *, polled: bool = True) -> SubmitQueue:
    """Return a queue that a thread drains at intervals, later than any test ends; or one without a thread."""
    submit_queue = SubmitQueue(process, lambda: False)
    submit_queue.polled = polled
    return submit_queue


def test_a_batch_wakes_the_thread_unless_it_polls(processor: Processor) -> None:
    woken: list[str] = []

    def wake() -> bool:
        woken.append("woken")
        return True

    submit_queue = SubmitQueue(processor, wake)
    submit_queue.put(batch("a"))
    submit_queue.put(batch("b"))
    assert (woken, len(submit_queue), submit_queue.busy) == (["woken"], 2, True)

    submit_queue.polled = False
    submit_queue.put(batch("c"))

    assert woken == ["woken"] * 2
    assert processor.processed == []


def test_without_a_thread_each_batch_is_processed_in_put(processor: Processor) -> None:
    submit_queue = make(processor, polled=False)

    submit_queue.put(batch("a"))
    submit_queue.put(batch("b"))

    assert processor.processed == ["a", "b"]
    assert not submit_queue.busy


def test_a_queue_whose_processing_blocks_never_processes_in_put(processor: Processor) -> None:
    submit_queue = SubmitQueue(processor, lambda: True, blocking=True)

    for _ in range(5_000):
        submit_queue.put(batch())

    assert processor.processed == []


def test_draining_processes_lingering_batches_at_once(processor: Processor) -> None:
    submit_queue = make(processor)
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

    submit_queue = make(slow)
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


def test_put_drains_the_queue_when_the_thread_does_not_keep_up(processor: Processor) -> None:
    submit_queue = make(processor)

    for _ in range(5_000):
        submit_queue.put(batch())

    assert len(processor.processed) >= 2_000
    assert processor.threads == {threading.current_thread()}


def test_each_batch_of_many_threads_is_processed_once(processor: Processor) -> None:
    submit_queue = make(processor)

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


def test_a_signal_handler_may_drain_during_a_drain(processor: Processor) -> None:
    class Interrupted(deque[Batch]):
        """Between two batches a signal handler of the same thread drains the rest."""

        def popleft(self) -> Batch:
            batch = super().popleft()
            if len(self) == 2:
                submit_queue.drain()
            return batch

    submit_queue = make(processor)
    submit_queue._batches = Interrupted(batch(name) for name in "abcd")

    submit_queue.drain()

    assert sorted(processor.processed) == ["a", "b", "c", "d"]


def test_a_batch_may_be_put_while_another_is_processed_on_the_same_thread(processor: Processor) -> None:
    def taking(batches: Sequence[Batch]) -> None:
        if not processor.processed:
            processor.processed.append("interrupted")
            submit_queue.put(batch("from a signal handler"))
            submit_queue.drain()
        processor(batches)

    submit_queue = make(taking)
    submit_queue.put(batch("a"))

    submit_queue.drain()

    assert processor.processed == ["interrupted", "from a signal handler", "a"]


def test_a_batch_has_a_drop_reason_of_its_own_or_of_its_context() -> None:
    refused = Batch([], lambda: (EMPTY_CONTEXT, DropReason.CONSENT))

    assert refused.resolve() == (EMPTY_CONTEXT, DropReason.CONSENT)
    assert Batch([], refused.context, drop=DropReason.CHOICE_ERROR).resolve()[1] is DropReason.CHOICE_ERROR


def test_a_queue_is_busy_while_another_thread_takes_its_last_batch() -> None:
    taken, release = threading.Event(), threading.Event()

    def process(_: Sequence[Batch]) -> None:
        taken.set()
        assert release.wait(PATIENCE)

    class EmptiedBetweenReads(deque[Batch]):
        """Emptied by the other thread while `busy` reads it."""

        def __bool__(self) -> bool:
            if not taken.is_set():
                other.start()
                assert taken.wait(PATIENCE)
            return len(self) > 0

    submit_queue = make(process)
    submit_queue._batches = EmptiedBetweenReads([batch("a")])
    other = threading.Thread(target=submit_queue.drain)

    assert submit_queue.busy
    release.set()
    other.join(PATIENCE)
    assert not submit_queue.busy
