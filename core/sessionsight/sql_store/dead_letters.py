"""Dead letters and counters of the outbox. Steps within a transaction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sessionsight.delivery.stores.sql_dead_letters import SqlDeadLetters
from sessionsight.sql_store.dialect import UNCLAIMED, insert_rows, server_time
from sessionsight.stores import Counts, DeadLetterQuery, NewRecord

__all__ = ["dead_letters", "enqueue", "increment", "requeue"]


def increment(cursor: Any, counts: Counts) -> None:
    """Add to counters, by rows of their own, so that processes do not wait for each other."""
    rows = [(lane, counter, number) for (lane, counter), number in counts.items() if number]
    insert_rows(cursor, "INSERT INTO sessionsight_count (lane, counter, number) VALUES (%s, %s, %s)", rows)


def enqueue(cursor: Any, records: Iterable[tuple[str, NewRecord]]) -> None:
    """Add records to the queues of lanes."""
    rows = [
        (lane, record.priority, record.size, record.enqueued_at, UNCLAIMED, False, record.body)
        for lane, record in records
    ]
    insert_rows(
        cursor,
        "INSERT INTO sessionsight_queue (lane, priority, size, enqueued_at, claimed_by, in_flight, takeovers, body)"
        " VALUES (%s, %s, %s, %s, %s, %s, 0, %s)",
        rows,
    )


dead_letters = SqlDeadLetters(
    increment,
    queue="sessionsight_queue",
    select="SELECT id, lane, priority, size, enqueued_at, body FROM sessionsight_queue",
)


def requeue(cursor: Any, query: DeadLetterQuery) -> int:
    """Queue the selected dead letters again, as if they were captured now, and return their number."""
    records = dead_letters.take(cursor, query, enqueued_at=server_time(cursor))
    enqueue(cursor, ((lane, record) for record in records for lane in record.lanes))
    return len(records)
