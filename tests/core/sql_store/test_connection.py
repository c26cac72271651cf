"""The thread that runs the transactions of a SQL store."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import ref

import pytest
from sqlalchemy.engine import make_url

from sessionsight.delivery import threads
from sessionsight.sql_store.connection import OwnConnection, _drop
from sessionsight.sqlalchemy.connection import own_connection
from sessionsight.stores import StoreBusy
from tests.core.sqlalchemy_databases import sqlalchemy_database
from tests.support.server import PATIENCE, until


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnConnection]:
    with sqlalchemy_database("sqlite", tmp_path) as url:
        own = own_connection(make_url(url))
        yield own
        own.close()


class Step:
    """Reads something, and remembers which thread it ran on."""

    thread: threading.Thread | None = None

    def __call__(self, cursor: Any) -> int:
        self.thread = threading.current_thread()
        cursor.execute("SELECT 1")
        return int(cursor.fetchone()[0])


@contextmanager
def used(own: OwnConnection) -> Iterator[None]:
    """Use the connection for another thread until the end of the block."""
    inside, leave = threading.Event(), threading.Event()

    def wait(cursor: Any) -> None:
        inside.set()
        assert leave.wait(PATIENCE)

    with ThreadPoolExecutor(1) as pool:
        using = pool.submit(own.run, wait, PATIENCE)
        try:
            assert inside.wait(PATIENCE)
            yield
        finally:
            leave.set()
        using.result(PATIENCE)


def refused(own: OwnConnection) -> ref[Step]:
    """A step that the connection had no time for."""
    step = Step()
    with pytest.raises(StoreBusy, match="other threads are using the connection"):
        own.run(step, 0.0)
    assert step.thread is None
    return ref(step)


def test_a_step_that_had_to_wait_for_too_long_is_forgotten(own: OwnConnection) -> None:
    with used(own):
        step = refused(own)
        gc.collect()  # the error and its frames
        assert step() is None
    assert own.run(Step(), PATIENCE) == 1


def test_a_step_that_was_cancelled_may_be_gone_already(own: OwnConnection) -> None:
    worker, waiting, cancelled = own._own_worker(), Future[str](), Future[None]()
    with used(own):
        worker.start(cancelled, lambda: pytest.fail("it was cancelled"))
        cancelled.cancel()
        worker.start(waiting, lambda: "done")
        worker.forget(Future())
    assert waiting.result(PATIENCE) == "done"


def test_a_signal_handler_that_interrupts_the_start_of_the_thread_starts_no_other(
    own: OwnConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[threading.Thread] = []
    start, interrupting, interrupted = threads.start_in_empty_context, Step(), Step()

    def interrupt(thread: threading.Thread) -> None:
        started.append(thread)
        start(thread)
        if len(started) == 1:
            assert own.run(interrupting, PATIENCE) == 1

    monkeypatch.setattr(threads, "start_in_empty_context", interrupt)
    assert own.run(interrupted, PATIENCE) == 1
    assert [interrupting.thread, interrupted.thread] == started * 2


def test_while_no_thread_can_be_started_the_calling_one_runs_the_step(
    own: OwnConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    for _ in range(2):
        step = Step()
        with monkeypatch.context() as patch:
            patch.setattr(threads, "start_in_empty_context", fail)
            own.run(step, PATIENCE)
        assert step.thread is threading.current_thread()


def test_what_was_inherited_by_a_fork_is_left_to_the_parent(own: OwnConnection) -> None:
    """As in a child, where no coverage is measured."""
    assert own.run(Step(), PATIENCE) == 1
    parents, lock = own._own_worker(), own._lock
    own._pid = parents.pid = -1

    _drop(parents)

    assert own.run(Step(), PATIENCE) == 1
    assert own._own_worker() is not parents
    assert own._lock is not lock
    assert parents.connection is not None
    assert not parents._jobs
    parents.pid = os.getpid()
    _drop(parents)
    until(lambda: parents.connection is None, "its thread has closed it")
