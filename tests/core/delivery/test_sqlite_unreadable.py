"""A file that cannot be read counts as not empty."""

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
from sessionsight.destinations import Signal
from sessionsight.settings import Settings
from tests.core.delivery.kit import event, labels
from tests.core.delivery.spools import LANE, SqliteSpool, claim, counts, enter, maintain, sqlite_spool
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
    """Make the disk of the spool's file fail."""
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


def test_a_flush_waits_during_the_cool_down(tmp_path: Path) -> None:
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


def test_the_file_is_only_read_during_the_cool_down(spool: SqliteSpool) -> None:
    enter(spool, [event("a")])
    spool.store.file._handle_failure(StoreUnavailable("full"))

    enter(spool, [event("b")])
    pending = spool.lane(LANE).pending
    enter(spool, [event("c")])

    assert pending == 2
    assert spool.lane(LANE).fallback.sendable.pending == 2


def test_a_failing_read_does_not_extend_the_cool_down(spool: SqliteSpool) -> None:
    """Otherwise a flush, which reads repeatedly, would prevent all writes."""
    with unreadable(spool):
        enter(spool, [event("a")])
        until = spool.store.file._cool_down_until
        assert spool.lane(LANE).pending == 2  # one of them for the unreadable file

    assert spool.store.file._cool_down_until == until


def test_a_file_that_cannot_be_read_counts_as_not_empty(spool: SqliteSpool) -> None:
    queue = spool.lane(LANE)
    with unreadable(spool):
        assert queue.pending == 1
        assert not queue.join(time.monotonic() + SOON)

    assert queue.pending == 0
    assert queue.join(time.monotonic() + PATIENCE)


def test_statistics_add_the_last_known_counts_and_those_in_memory(spool: SqliteSpool) -> None:
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


def test_a_flush_does_not_wait_for_a_missing_folder(tmp_path: Path) -> None:
    with Server() as server:
        shop = client(tmp_path / "none" / "spool.db", server.url)
        try:
            shop.analytics.capture("seen", user_id="user_1", key="k")
            assert shop.flush(PATIENCE)
            assert shop.stats().lanes["signal"].delivered == 1
        finally:
            assert shop.shutdown(PATIENCE)


# --- keys -----------------------------------------------------------------------------------------


def test_keyed_records_wait_until_the_file_can_be_used(spool: SqliteSpool) -> None:
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
    maintain(spool)

    assert labels(sent) == ["c"]
    assert labels(claim(queue, 1)) == ["b"]
    assert counts(queue) == {"captured": 4, "delivered": 2, "pending": 1, "duplicate": 1}


def test_deferred_records_are_sent_at_shutdown(spool: SqliteSpool) -> None:
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


def test_deferred_records_are_stored_at_shutdown_if_the_file_can_be_used(spool: SqliteSpool) -> None:
    queue = spool.lane(LANE)
    with unreadable(spool):
        enter(spool, [event("a", key="k")])
    spool.clock.advance(1.0)

    queue.begin_shutdown()
    assert queue.close() == 0
    assert counts(queue) == {"captured": 1, "pending": 1}


def test_records_in_memory_after_shutdown_are_lost_with_or_without_a_key(spool: SqliteSpool) -> None:
    queue = spool.lane(LANE)
    with unreadable(spool):
        enter(spool, [event("a", key="k"), event("b")])
        assert queue.close() == 2


def test_a_key_that_was_moved_to_the_file_is_forgotten_in_memory(spool: SqliteSpool) -> None:
    """The file may have evicted its record, and with it the key."""
    queue = spool.lane(LANE)
    with unreadable(spool):
        enter(spool, [event("a", key="k")])
    spool.clock.advance(1.0)
    queue.maintain()
    queue.drop(claim(queue, 1), DropReason.QUEUE_FULL)
    spool.store.file.write(lambda connection: connection.execute("DELETE FROM keys"), timeout=PATIENCE)
    with unreadable(spool):
        enter(spool, [event("a", key="k")])

        assert queue.pending == 2
