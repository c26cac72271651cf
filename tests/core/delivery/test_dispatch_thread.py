"""The dispatcher thread: it processes batches when they have lingered, runs lanes when they are due, and survives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import pytest

from sessionsight.capture.interfaces import Batch
from sessionsight.delivery import threads
from sessionsight.delivery.dispatch_thread import DispatchThread
from sessionsight.delivery.lane import Lane
from sessionsight.request.context import EMPTY_CONTEXT
from tests.core.delivery.kit import event
from tests.support.server import PATIENCE, until

LONG = 3600.0


def batch(name: str = "seen") -> Batch:
    return Batch([event(name).record], EMPTY_CONTEXT)


class Processor:
    """Records the labels of processed batches, and the threads on which they were processed."""

    def __init__(self) -> None:
        self.processed: list[str] = []
        self.threads: set[threading.Thread] = set()
        self.errors: list[BaseException] = []
        self.error: type[BaseException] | None = None

    def __call__(self, batches: Sequence[Batch]) -> None:
        self.processed += [record.label for one in batches for record in one.records]
        self.threads.add(threading.current_thread())
        if self.error is not None:
            error, self.error = self.error, None
            raise error


@pytest.fixture
def processor() -> Processor:
    return Processor()


Make = Callable[..., DispatchThread]


@pytest.fixture
def make(processor: Processor) -> Iterator[Make]:
    made: list[DispatchThread] = []

    def make(*, linger: float = 0.0, tick: Callable[[], float | None] = lambda: None) -> DispatchThread:
        made.append(DispatchThread(processor, processor.errors.append, linger=linger, tick=tick))
        return made[-1]

    yield make
    for dispatch in made:
        thread = dispatch._thread
        dispatch.stop()
        if thread is not None:
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_no_thread_is_started_before_the_first_batch(make: Make) -> None:
    assert not make().running


def test_batches_are_processed_on_the_thread(make: Make, processor: Processor) -> None:
    dispatch = make()

    dispatch.queue.put(batch("a"))

    until(lambda: processor.processed == ["a"], "it is processed")
    assert processor.threads == {dispatch._thread}


def test_each_batch_is_processed_though_the_thread_falls_asleep_between_them(make: Make, processor: Processor) -> None:
    dispatch = make(linger=0.001)
    for _ in range(30):
        dispatch.queue.put(batch())
        until(lambda: bool(processor.processed), "it is processed")
        until(lambda: not dispatch.queue.polled, "the thread is idle")
        processor.processed.clear()


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_the_thread_reports_an_exception_and_continues(
    make: Make, processor: Processor, error: type[BaseException]
) -> None:
    processor.error = error
    dispatch = make()
    dispatch.queue.put(batch("a"))
    until(lambda: len(processor.errors) == 1, "it is reported")
    thread = dispatch._thread

    dispatch.queue.put(batch("b"))

    until(lambda: processor.processed == ["a", "b"], "the next one is processed")
    assert type(processor.errors[0]) is error
    assert processor.threads == {thread}


def test_after_stopping_each_batch_is_processed_in_put(make: Make, processor: Processor) -> None:
    dispatch = make(linger=LONG)
    dispatch.queue.put(batch("before"))
    thread = dispatch._thread
    assert thread is not None

    dispatch.stop()
    thread.join(PATIENCE)
    dispatch.queue.put(batch("after"))

    assert processor.processed == ["before", "after"]
    assert processor.threads == {thread, threading.current_thread()}


def test_without_threads_each_batch_is_processed_in_put(
    make: Make, processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "available", lambda: False)

    make(linger=LONG).queue.put(batch("a"))

    assert processor.threads == {threading.current_thread()}


def test_at_interpreter_shutdown_each_batch_is_processed_in_put(
    make: Make, processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", start)
    dispatch = make(linger=LONG)

    dispatch.queue.put(batch("a"))

    assert processor.processed == ["a"]
    assert not dispatch.running


def test_a_retired_thread_processes_what_lingers_and_ends(make: Make, processor: Processor) -> None:
    retired = threading.Event()
    dispatch = make(linger=LONG)
    dispatch.queue.put(batch("a"))

    dispatch.retire(retired.set)

    assert retired.wait(PATIENCE)
    assert processor.processed == ["a"]


def test_a_retired_thread_that_is_stopped_leaves_what_is_left_to_its_caller(make: Make, processor: Processor) -> None:
    """Otherwise both would close the lanes at the end of a process, and only one knows what was lost."""
    retired: list[str] = []
    pending = threading.Event()

    class Waiting:
        pending = 1
        due = float("inf")
        called = in_flight = False

        def begin_flush(self) -> None: ...

        def run(self) -> float:
            pending.set()
            return LONG

        def close_connections(self) -> None: ...

    dispatch = make()
    dispatch.lanes = (cast("Lane", Waiting()),)
    dispatch.queue.put(batch("a"))
    thread = dispatch._thread
    assert thread is not None
    dispatch.retire(lambda: retired.append("retired"))
    assert pending.wait(PATIENCE)

    dispatch.stop()

    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert (retired, processor.processed) == ([], ["a"])


def test_periodic_work_that_fails_is_reported_and_done_again(make: Make, processor: Processor) -> None:
    done: list[str] = []

    def tick() -> float | None:
        done.append("tick")
        if len(done) == 1:
            raise ZeroDivisionError
        return 0.0 if len(done) == 2 else None

    dispatch = make(tick=tick)
    dispatch.call_later(0.0)
    until(lambda: len(done) == 1, "it is done")
    dispatch.call_later(0.0)
    until(lambda: len(done) == 3, "it is done again, and once more because it asks for that")

    assert [type(error) for error in processor.errors] == [ZeroDivisionError]
    until(lambda: dispatch._tick_at == float("inf"), "no further call is scheduled")
