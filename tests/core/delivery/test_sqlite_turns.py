"""Whose turn it is to write: requests go before delivery, and wait only so long."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.stores.errors import StoreBusy
from sessionsight.delivery.stores.sqlite import connection as spool_file
from sessionsight.delivery.stores.sqlite.connection import SqliteConnection

WAIT = DeliveryOptions().spool_busy_timeout


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(spool_file, "time", clock)
    return clock


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SqliteConnection]:
    file = SqliteConnection(str(tmp_path / "spool.db"), synchronous="normal")
    yield file
    file.disconnect()


@contextmanager
def another_writing(file: SqliteConnection) -> Iterator[sqlite3.Connection]:
    file.read(nothing, timeout=WAIT)  # it is there
    with closing(sqlite3.connect(file.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other
        other.execute("ROLLBACK")


def nothing(connection: sqlite3.Connection) -> None:
    """Write nothing, which takes the lock all the same."""


def seconds(clock: Clock, file: SqliteConnection, **options: Any) -> float:
    """How long a write waits in vain."""
    begun = clock.now
    with pytest.raises(StoreBusy):
        file.write(nothing, timeout=WAIT, **options)
    return clock.now - begun


def test_a_request_looks_for_a_gap_more_often_than_delivery(clock: Clock, file: SqliteConnection) -> None:
    with another_writing(file):
        seconds(clock, file, on_request_path=True)
        request, clock.pauses = clock.pauses, []
        seconds(clock, file)

    assert set(request) == {0.0005}
    assert min(clock.pauses[1:]) > 5 * 0.0005


def test_the_first_request_looks_as_often_while_the_file_is_not_open_yet(clock: Clock, file: SqliteConnection) -> None:
    with another_writing(file):
        file.disconnect()
        seconds(clock, file, on_request_path=True)

    assert set(clock.pauses) == {0.0005}


def test_a_reader_waits_for_whoever_has_the_file_to_himself(clock: Clock, file: SqliteConnection) -> None:
    with another_writing(file):
        file.disconnect()
        with pytest.raises(StoreBusy):
            file.read(nothing, timeout=WAIT)

    assert sum(clock.pauses) == pytest.approx(WAIT, abs=0.01)


def test_after_one_has_waited_in_vain_the_next_requests_wait_for_a_moment_only(
    clock: Clock, file: SqliteConnection
) -> None:
    with another_writing(file):
        waits = [seconds(clock, file, on_request_path=True) for _ in range(3)]
        clock.sleep(1.0)
        waits += [seconds(clock, file, on_request_path=True) for _ in range(2)]

    assert waits == pytest.approx([WAIT, 0.05, 0.05, WAIT, 0.05], abs=0.01)


def test_delivery_pauses_for_as_long_as_it_had_the_file(clock: Clock, file: SqliteConnection) -> None:
    file.write(lambda _: clock.sleep(0.2), timeout=WAIT)
    clock.pauses = []

    file.write(nothing, timeout=WAIT, on_request_path=True)
    for_request = list(clock.pauses)
    file.write(nothing, timeout=WAIT)

    assert for_request == []
    assert clock.pauses[0] == pytest.approx(0.2)


def test_a_log_begins_anew_once_it_is_written_back(file: SqliteConnection) -> None:
    file.write(nothing, timeout=WAIT)
    statements: list[str] = []
    connect = sqlite3.connect

    def connected(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(statements.append)
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", connected)
        file.checkpoint(restart=True)

    assert statements == ["PRAGMA wal_checkpoint(PASSIVE)", "PRAGMA wal_checkpoint(RESTART)"]
