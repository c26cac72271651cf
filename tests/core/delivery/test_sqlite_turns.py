"""Waiting for other writers of a SQLite store."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.stores.errors import StoreBusy
from sessionsight.delivery.stores.sqlite.connection import SqliteConnection
from tests.support.clock import FrozenClock

WAIT = DeliveryOptions().spool_timeout


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def file(tmp_path: Path, clock: FrozenClock) -> Iterator[SqliteConnection]:
    file = SqliteConnection(str(tmp_path / "spool.db"), synchronous="normal", clock=clock)
    yield file
    file.disconnect()


@contextmanager
def another_writing(file: SqliteConnection) -> Iterator[None]:
    with file.read(WAIT):  # creates the file
        pass
    with closing(sqlite3.connect(file.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.mark.parametrize("is_open", [True, False])
def test_a_write_is_tried_every_millisecond_while_another_process_writes(
    clock: FrozenClock, file: SqliteConnection, is_open: bool
) -> None:
    with another_writing(file):
        if not is_open:
            file.disconnect()
        clock.pauses = []
        with pytest.raises(StoreBusy), file.write(WAIT):
            pass

    assert {*clock.pauses} == {0.001}
    assert sum(clock.pauses) == pytest.approx(WAIT, abs=0.01)


def test_a_read_waits_while_another_process_keeps_the_file_locked(clock: FrozenClock, file: SqliteConnection) -> None:
    with another_writing(file):
        file.disconnect()
        with pytest.raises(StoreBusy), file.read(WAIT):
            pass

    assert sum(clock.pauses) == pytest.approx(WAIT, abs=0.01)
