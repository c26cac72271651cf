"""Processes that share one store, for tests of every store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import redis

from sessionsight.clock import Clock
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.factory import open_redis_store
from sessionsight.delivery.stores.base import Counts, Failure, NewRecord, Store
from sessionsight.delivery.stores.sqlite.store import SqliteStore
from sessionsight.log import ThrottledLogger
from tests.core.delivery.spools import POISON, empty_redis
from tests.support.brokers import need_redis
from tests.support.clock import RunningClock

UNKNOWN = Failure(reason="unknown", message="the process ended", attempts=1)
X, Y = "x", "y"  # two lanes
STORES = ("sqlite", "redis", "postgresql", "mariadb", "sqlite_orm")


class Fleet(ABC):
    """Processes that share one store."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    @abstractmethod
    def open(self, clock: Clock, options: DeliveryOptions) -> Any:
        """Return a store, as of another process."""

    @abstractmethod
    def kill(self, store: Any) -> None:
        """Leave the claims of a store as a killed process does."""

    def start(self, clock: Clock | None = None, **options: Any) -> Store:
        """Start a process, which is ended with the test."""
        store = cast(Store, self.open(clock or RunningClock(), DeliveryOptions(**options)))
        self._stack.callback(store.close)
        return store

    def recover(self, ended: Store, in_flight: Failure | None = UNKNOWN) -> tuple[int, int]:
        """Kill a process, and let another one recover its claims."""
        self.kill(ended)
        return self.start().recover(in_flight, POISON)


class SqliteFleet(Fleet):
    def __init__(self, stack: ExitStack, folder: Path) -> None:
        super().__init__(stack)
        self._path = str(folder / "spool.db")

    def open(self, clock: Clock, options: DeliveryOptions) -> SqliteStore:
        return SqliteStore(self._path, options, ThrottledLogger(), clock=clock, timeout=20.0)

    def kill(self, store: SqliteStore) -> None:
        if store.file.owner_lock is not None:
            store.file.owner_lock.release()
        store.file.owner_lock = None


class RedisFleet(Fleet):
    def __init__(self, stack: ExitStack) -> None:
        super().__init__(stack)
        self._namespace = f"test-{uuid4().hex}"
        self._url = f"{need_redis()}?namespace={self._namespace}"
        stack.callback(empty_redis, self._url)
        self._client = stack.enter_context(redis.Redis.from_url(need_redis(), protocol=2))

    def open(self, clock: Clock, options: DeliveryOptions) -> Any:
        return open_redis_store(self._url, options, ThrottledLogger(), clock=clock, timeout=20.0)

    def kill(self, store: Any) -> None:
        self._client.zadd(f"{{{self._namespace}}}:owners", {store.owner: 0})


class DatabaseFleet(Fleet):
    def __init__(self, stack: ExitStack, engine: str, folder: Path) -> None:
        from tests.adapters import outbox_databases  # needs Django

        super().__init__(stack)
        self._alias = stack.enter_context(outbox_databases.outbox_database(engine, folder, reuse="django"))

    def open(self, clock: Clock, options: DeliveryOptions) -> Any:
        from sessionsight_django.outbox.store import DjangoStore

        return DjangoStore(self._alias, options, ThrottledLogger(), clock=clock, timeout=20.0)

    def kill(self, store: Any) -> None:
        expire = "UPDATE sessionsight_owner SET expires_at = 0 WHERE owner = %s"
        store._run(lambda cursor: cursor.execute(expire, [store.owner]))


@contextmanager
def run_fleet(kind: str, folder: Path) -> Iterator[Fleet]:
    """Yield processes on an empty store of one of the `STORES`."""
    with ExitStack() as stack:
        if kind == "sqlite":
            yield SqliteFleet(stack, folder)
        elif kind == "redis":
            yield RedisFleet(stack)
        else:
            yield DatabaseFleet(stack, kind, folder)


def put(store: Store, lane: str, *bodies: str, **fields: Any) -> None:
    """Add events to a lane."""
    fields = {"priority": 1, "size": 10, "enqueued_at": 1000.0, **fields}
    records = [NewRecord(lanes=[lane], body=body.encode(), **fields) for body in bodies]
    counts: Counts = {(lane, "captured"): len(records)}
    store.enqueue(records, counts, batch_id=uuid4().bytes[:10], timeout=20.0)


def claim(store: Store, lane: str = X) -> dict[str, int]:
    """Claim the next records of a lane: body to handle."""
    claimed = store.claim(lane, max_records=100, max_bytes=10**9, timeout=20.0)
    return {one.body.decode(): one.handle for one in claimed.claims}
