"""Durable spools of each kind, on servers of this machine, with the records of a request."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest

from benchmarks.workload import EVENT, PROPERTIES, environ
from sessionsight import Client, Settings
from sessionsight.capture.encoding import PropertyEncoder
from sessionsight.capture.records import EventRecord, QueuedRecord
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.durable_spool import DurableSpool
from sessionsight.delivery.queue.encoding import encode_batches
from sessionsight.delivery.queue.factory import open_database_store, open_redis_store
from sessionsight.delivery.stores.base import LaneBatch
from sessionsight.delivery.stores.sqlite.store import SqliteStore
from sessionsight.log import ThrottledLogger

KINDS = {"sqlite": "SQLite file", "redis": "Redis", "postgresql": "PostgreSQL", "mariadb": "MariaDB"}
LANES = ("sessionsight", "signal", "saytics", "analyse")

_OPTIONS = DeliveryOptions(spool_bytes=1 << 40, spool_timeout=5.0)
_CONTEXT = Client(Settings()).for_request(environ(1)).context
_PROPERTIES = PropertyEncoder(unknown=lambda kind: None)(PROPERTIES)
# Records that are added in one write, to prepare a measurement.
_CHUNK = 250


@contextmanager
def prepared(kind: str) -> Iterator[str]:
    """Yield the URL of an empty spool.

    Raises:
        LookupError: This machine has no such server.
    """
    with TemporaryDirectory(prefix="sessionsight-bench-") as folder:
        try:
            if kind == "sqlite":
                yield f"{folder}/spool.db"
            elif kind == "redis":
                from tests.support.redis_server import run_redis

                with run_redis(Path(folder), appendonly="yes", appendfsync="everysec") as server:
                    yield server.url
            else:
                from tests.adapters.outbox_databases import outbox_database

                with outbox_database(kind, Path(folder)) as alias:
                    yield f"django:{alias}"
        except pytest.skip.Exception as reason:
            raise LookupError(reason.msg) from None


def open_spool(url: str) -> DurableSpool:
    """Open a spool as a process of its own would."""
    logger = ThrottledLogger()
    store: Any
    if url.startswith("redis"):
        store = open_redis_store(url, _OPTIONS, logger)
    elif url.startswith("django"):
        store = open_database_store(url, _OPTIONS, logger)
    else:
        store = SqliteStore(url, _OPTIONS, logger)
    spool = DurableSpool(store, _OPTIONS, logger)
    for lane in LANES:
        spool.lane(lane)
    return spool


def request(number: int = 3) -> list[LaneBatch]:
    """Return the records of one request, each for all four lanes."""
    now = time.time()
    records = [EventRecord(random=os.urandom(10), time=now, name=EVENT, properties=_PROPERTIES) for _ in range(number)]
    entries = [QueuedRecord(record, _CONTEXT, now) for record in records]
    return [LaneBatch(lane, entries) for lane in LANES]


def stored_bytes(store: Any) -> int:
    """Return the bytes that a store uses: of the file, of the server's memory, or of the tables and their indexes."""
    if isinstance(store, SqliteStore):
        return store.stats().used_bytes
    if store.name.startswith("redis"):
        return int(store.connections.info(timeout=5.0)["used_memory"])
    from django.db import connections

    connection = connections[store.name.partition(":")[2]]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_total_relation_size('sessionsight_queue')")
        else:
            cursor.execute("ANALYZE TABLE sessionsight_queue")
            cursor.fetchall()
            cursor.execute(
                "SELECT data_length + index_length FROM information_schema.tables"
                " WHERE table_schema = database() AND table_name = 'sessionsight_queue'"
            )
        return int(cursor.fetchone()[0])


def fill(store: Any, each: int) -> None:
    """Add a number of records, each for all four lanes."""
    write = encode_batches(request(_CHUNK))
    for _ in range(each // _CHUNK):
        again = msgspec.structs.replace(write, batch_id=os.urandom(10))
        store.enqueue(again.records, again.counts, batch_id=again.batch_id, timeout=60.0)
