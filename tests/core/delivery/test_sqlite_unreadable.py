"""A file that cannot be read is not an empty one: nobody says that all is delivered."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sessionsight.capture.records import DropReason
from sessionsight.client import Client
from sessionsight.delivery.stores.errors import StoreUnavailable
from sessionsight.delivery.stores.sqlite import connection as spool_file
from sessionsight.destinations import Signal
from sessionsight.settings import Settings
from tests.core.delivery.kit import event, labels
from tests.core.delivery.spools import LANE, SqliteSpool, claim, counts, enter, sqlite_spool
from tests.support.server import PATIENCE, Server, free_port

SOON = 0.01


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[SqliteSpool]:
    spool = sqlite_spool(tmp_path / "spool.db")
    yield spool
    spool.lane(LANE).close()
    spool.close()


@contextmanager
def unreadable(spool: SqliteSpool) -> Iterator[None]:
    """Within, the disk under the spool's file fails."""
    original = spool.store._opened

    def opened(connection: sqlite3.Connection, base: int) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    spool.store.file._on_open = opened
    spool.store.file.disconnect()
    yield
    spool.store.file._on_open = original


def client(path: Path, url: str, **options: Any) -> Client:
    destination = Signal(api_key="key", endpoint=url)
    return Client(Settings(destinations=(destination,), spool=f"sqlite:///{path}", trust_env=False, **options))


def test_a_flush_waits_while_the_file_rests(tmp_path: Path) -> None:
    shop = client(tmp_path / "spool.db", f"http://127.0.0.1:{free_port()}")
    try:
        for number in range(5):
            shop.analytics.capture(f"seen {number}", user_id="user_1")
        spool: Any = shop._engine_for_process()._spool
        spool.store.file._handle_failure(StoreUnavailable("full"))

        assert not shop.flush(SOON)
        assert shop.stats().lanes["signal"].captured == 5
        assert shop.stats().lanes["signal"].pending == 5
    finally:
        shop.shutdown(0)


def test_a_file_that_rests_is_not_written_but_read(spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_file, "_COOL_DOWN", PATIENCE)
    enter(spool, [event("a")])
    spool.store.file._handle_failure(StoreUnavailable("full"))

    enter(spool, [event("b")])
    pending = spool.lane(LANE).pending
    enter(spool, [event("c")])

    assert pending == 2
    assert spool.lane(LANE)._fallback.sendable.pending == 2


def test_a_reader_that_fails_does_not_prolong_the_rest(spool: SqliteSpool) -> None:
    """Or whoever flushes, and so reads again and again, would keep the file from ever being written."""
    with unreadable(spool):
        enter(spool, [event("a")])
        until = spool.store.file._cool_down_until
        assert spool.lane(LANE).pending == 2  # one of which is a guess

    assert spool.store.file._cool_down_until == until


def test_nobody_calls_a_file_empty_that_cannot_be_read(spool: SqliteSpool) -> None:
    queue = spool.lane(LANE)
    with unreadable(spool):
        assert queue.pending == 1
        assert not queue.join(time.monotonic() + SOON)

    assert queue.pending == 0
    assert queue.join(time.monotonic() + PATIENCE)


def test_statistics_keep_what_was_read_last_and_add_what_is_in_memory(spool: SqliteSpool) -> None:
    queue = spool.lane(LANE)
    enter(spool, [event(name) for name in "abc"])
    queue.ack(claim(queue, 1))
    before = counts(queue)
    with unreadable(spool):
        enter(spool, [event("d"), event("e", key="k")])
        stats = queue.snapshot("closed")
        assert counts(queue) == {"captured": 5, "delivered": 1, "pending": 4}
        assert stats.last_error is not None
        assert "the spool cannot be read: disk I/O error" in stats.last_error
        assert queue.dead_letters() == []

    assert before == {"captured": 3, "delivered": 1, "pending": 2}
    assert queue.snapshot("closed").last_error is None


def test_without_its_folder_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    with Server() as server:
        shop = client(tmp_path / "none" / "spool.db", server.url)
        try:
            shop.analytics.capture("seen", user_id="user_1", key="k")
            assert shop.flush(PATIENCE)
            assert shop.stats().lanes["signal"].delivered == 1
        finally:
            assert shop.shutdown(PATIENCE)


# --- keys -----------------------------------------------------------------------------------------


def test_what_has_a_key_waits_for_the_file_that_knows_it(spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_file, "_COOL_DOWN", 0.0)
    queue = spool.lane(LANE)
    enter(spool, [event("a", key="k")])
    queue.ack(claim(queue, 1))
    assert counts(queue) == {"captured": 1, "delivered": 1}
    with unreadable(spool):
        enter(spool, [event("a", key="k"), event("b", key="l"), event("c")])
        queue.maintain()
        sent = queue.claim(10, 10**9)
        assert not queue.claim(10, 10**9)
        queue.ack(sent)
        assert counts(queue) == {"captured": 4, "delivered": 2, "pending": 2}
    queue._next_maintenance = 0.0
    queue.maintain()

    assert labels(sent) == ["c"]
    assert labels(claim(queue, 1)) == ["b"]
    assert counts(queue) == {"captured": 4, "delivered": 2, "pending": 1, "duplicate": 1}


def test_what_has_a_key_is_sent_all_the_same_when_the_process_ends(spool: SqliteSpool) -> None:
    queue = spool.lane(LANE)
    enter(spool, [event("a", key="k")])
    queue.ack(claim(queue, 1))
    with unreadable(spool):
        enter(spool, [event("b", key="l"), event("b", key="l")])
        queue.maintain()
        queue.begin_shutdown()
        queue.maintain()
        sent = queue.claim(10, 10**9)
        enter(spool, [event("c", key="m")])  # late
        sent = [*sent, *queue.claim(10, 10**9)]
        queue.ack(sent)

    assert labels(sent) == ["b", "c"]
    assert counts(queue) == {"captured": 4, "delivered": 3, "duplicate": 1}


def test_what_has_a_key_goes_to_the_file_when_the_process_ends_and_the_file_is_back(spool: SqliteSpool) -> None:
    queue = spool.lane(LANE)
    with unreadable(spool):
        enter(spool, [event("a", key="k")])
    spool.store.file._cool_down_until = 0.0

    queue.begin_shutdown()
    assert queue.close() == 0
    assert counts(queue) == {"captured": 1, "pending": 1}


def test_what_the_end_leaves_in_memory_is_lost_and_counted_with_or_without_a_key(spool: SqliteSpool) -> None:
    queue = spool.lane(LANE)
    with unreadable(spool):
        enter(spool, [event("a", key="k"), event("b")])
        assert queue.close() == 2


def test_a_key_that_went_to_the_file_is_not_held_against_later_ones(spool: SqliteSpool) -> None:
    """The file may have had to drop its record, and with it the key."""
    queue = spool.lane(LANE)
    with unreadable(spool):
        enter(spool, [event("a", key="k")])
    spool.store.file._cool_down_until = 0.0
    queue.maintain()
    queue.drop(claim(queue, 1), DropReason.QUEUE_FULL)
    spool.store.file.write(lambda connection: connection.execute("DELETE FROM keys"), timeout=PATIENCE)
    with unreadable(spool):
        enter(spool, [event("a", key="k")])

        assert queue.pending == 2
