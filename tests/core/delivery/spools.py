"""Durable spools for tests, and operations on spools."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from sessionsight.capture.records import DropReason, QueuedRecord
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.base import LaneQueue, Spool
from sessionsight.delivery.queue.durable_spool import DurableSpool
from sessionsight.delivery.queue.factory import open_redis_store
from sessionsight.delivery.stores.base import DeadLetter, Failure, LaneBatch
from sessionsight.delivery.stores.sqlite.store import SqliteStore
from sessionsight.log import ThrottledLogger
from sessionsight.spool_url import parse_redis
from tests.core.delivery.kit import tally
from tests.support.clock import RunningClock
from tests.support.flaky_store import FlakyStore, as_store

LANE = "vendor"
POISON = Failure(reason="internal_error", message="5 processes ended", attempts=5)


class SqliteSpool(DurableSpool):
    """A spool over a SQLite store, whose clock a test advances."""

    store: SqliteStore
    clock: RunningClock


def sqlite_spool(path: Path, *lanes: str, **options: Any) -> SqliteSpool:
    """Return a spool with lanes. Its busy timeout is long, so that a slow machine does not fail a test."""
    chosen, logger = DeliveryOptions(**{"spool_timeout": 20.0, **options}), ThrottledLogger()
    clock = RunningClock()
    spool = SqliteSpool(SqliteStore(str(path), chosen, logger, clock=clock), chosen, logger, clock=clock)
    for lane in lanes or (LANE,):
        spool.lane(lane)
    return spool


def redis_spool(url: str, *lanes: str, **options: Any) -> DurableSpool:
    """Return a spool with lanes over a Redis store. Its timeout is long."""
    chosen, logger, clock = (
        DeliveryOptions(**{"spool_timeout": 20.0, **options}),
        ThrottledLogger(),
        RunningClock(),
    )
    store = open_redis_store(url, chosen, logger, clock=clock, timeout=20.0)
    spool = DurableSpool(store, chosen, logger, clock=clock)
    for lane in lanes or (LANE,):
        spool.lane(lane)
    return spool


def empty_redis(url: str) -> None:
    """Delete all keys of a spool from a server that tests share."""
    import redis  # takes longer than everything else that a process of a test imports

    found = parse_redis(url)
    assert found is not None
    with redis.Redis.from_url(found.url, protocol=2) as client:
        for key in client.scan_iter(f"{{{found.namespace}}}:*", count=1000):
            client.delete(key)


class FlakySpool(DurableSpool):
    """A spool over a SQLite store that fails when a test says so."""

    flaky: FlakyStore
    clock: RunningClock


def flaky_spool(path: Path, *lanes: str, **options: Any) -> FlakySpool:
    """Return a spool whose store a test lets fail."""
    chosen, logger, clock = (
        DeliveryOptions(**{"spool_timeout": 20.0, **options}),
        ThrottledLogger(),
        RunningClock(),
    )
    flaky = FlakyStore(SqliteStore(str(path), chosen, logger, clock=clock))
    spool = FlakySpool(as_store(flaky), chosen, logger, clock=clock)
    spool.flaky = flaky
    for lane in lanes or (LANE,):
        spool.lane(lane)
    return spool


def enter(
    spool: Spool, entries: Iterable[QueuedRecord], dropped: Sequence[DropReason] = (), *, lane: str = LANE
) -> None:
    spool.enqueue([LaneBatch(lane, list(entries), dropped)])


def maintain(spool: SqliteSpool | FlakySpool) -> None:
    """Run the maintenance of a lane when it is due next. A cool-down after a failure is over by then."""
    spool.clock.advance(2.0)
    spool.lane(LANE).maintain()


def letter(entry: QueuedRecord, reason: str = "refused") -> DeadLetter:
    return DeadLetter(
        destination=LANE,
        entry=entry,
        reason=reason,
        message="no such goal",
        status=400,
        attempts=1,
        first_attempt=time.time() - 1,
        last_attempt=time.time(),
    )


def counts(queue: LaneQueue) -> dict[str, int]:
    return tally(queue.snapshot("closed"))


def claim(queue: LaneQueue, number: int) -> list[QueuedRecord]:
    """Claim up to `number` entries in as many steps as it takes."""
    claimed: list[QueuedRecord] = []
    while len(claimed) < number and (more := queue.claim(number - len(claimed), 10**9)):
        claimed += more
    return claimed


def query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(sql).fetchall()


def sound(path: Path) -> bool:
    """Return whether the file is intact, and the reference count of each record is right."""
    if not query(path, "SELECT 1 FROM sqlite_master WHERE name = 'records'"):
        return True  # it has no tables
    queued = "SELECT count(*) FROM queue WHERE record = records.id"
    wrong = query(path, f"SELECT id FROM records WHERE refcount <> ({queued}) OR refcount < 1")
    lost = query(path, "SELECT record FROM queue WHERE record NOT IN (SELECT id FROM records)")
    return query(path, "PRAGMA integrity_check") == [("ok",)] and not wrong and not lost


def files(path: Path) -> list[str]:
    """Return the sorted names of all files in a spool's folder."""
    return sorted(file.name for file in path.parent.iterdir())


def abandon(spool: SqliteSpool) -> None:
    """Leave a spool as a killed process does: the file as it is, and no lock."""
    lock, spool.store.file.owner_lock = spool.store.file.owner_lock, None
    if lock is not None:
        lock.release()
    spool._closed = spool.store._closed = True
    spool.store.file.disconnect()
