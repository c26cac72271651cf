"""The maintenance of the outbox, once a minute. Steps within a transaction."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sessionsight.sql_store.dead_letters import dead_letters, increment
from sessionsight.sql_store.dialect import ids, locked, now, server_time, skip_locked
from sessionsight.sql_store.inbox import UNCLAIMED
from sessionsight.sql_store.ledger import estimated_bytes
from sessionsight.stores import DeadLetterQuery, DeliveryOptions, DropReason

__all__ = ["maintain"]

_REMEMBER_BATCHES = 600.0
_MAX_EVICTIONS = 10_000  # in one maintenance
_MERGED = 5000  # rows of counters at once


def maintain(cursor: Any, options: DeliveryOptions, *, exact: bool) -> None:
    """Delete what is too old or too much, and merge rows of counters.

    Args:
        cursor: In a transaction.
        options: The limits.
        exact: Add up the sizes of all records, even if an estimate says that there are few.
    """
    for table, age in (("key", options.dedupe_window), ("batch", _REMEMBER_BATCHES)):
        cursor.execute(f"DELETE FROM sessionsight_{table} WHERE seen_at < {now(cursor.db)} - %s", [age])
    expired = DeadLetterQuery(died_before=server_time(cursor) - options.dead_letters_max_age)
    dead_letters.delete(cursor, expired, counter=DropReason.DEAD_LETTERS_EXPIRED.value)
    if exact or estimated_bytes(cursor) >= options.spool_bytes / 2:  # adding up all sizes takes long
        _evict(cursor, options.spool_bytes)
    while _merge_counts(cursor):
        pass


def _evict(cursor: Any, max_bytes: int) -> None:
    """Drop the oldest unclaimed records, events before goals, until the queues are small enough."""
    # Wait for another process that evicts, which would otherwise not be in the sum.
    oldest = "SELECT id FROM sessionsight_queue WHERE claimed_by = %s ORDER BY priority DESC, id LIMIT 1"
    cursor.execute(f"{oldest}{locked(cursor.db)}", [UNCLAIMED])
    cursor.execute("SELECT coalesce(sum(size), 0) FROM sessionsight_queue")
    excess = cursor.fetchone()[0] - max_bytes
    if excess <= 0:
        return
    cursor.execute(
        "SELECT id, lane, size FROM sessionsight_queue WHERE claimed_by = %s"
        f" ORDER BY priority DESC, id LIMIT {_MAX_EVICTIONS}{skip_locked(cursor.db)}",
        [UNCLAIMED],
    )
    evicted: list[int] = []
    counts: Counter[tuple[str, str]] = Counter()
    for id_, lane, size in cursor.fetchall():
        if excess <= 0:
            break
        excess -= size
        evicted.append(id_)
        counts[lane, DropReason.QUEUE_FULL.value] += 1
    if evicted:
        cursor.execute(f"DELETE FROM sessionsight_queue WHERE id IN ({ids(evicted)})")
        increment(cursor, counts)


def _merge_counts(cursor: Any) -> bool:
    """Replace rows of the same counter by their sum, and return whether there may be more."""
    cursor.execute(f"SELECT id, lane, counter, number FROM sessionsight_count LIMIT {_MERGED}{skip_locked(cursor.db)}")
    found = cursor.fetchall()
    counts: Counter[tuple[str, str]] = Counter()
    for _, lane, counter, number in found:
        counts[lane, counter] += number
    if len(found) > len(counts):
        cursor.execute(f"DELETE FROM sessionsight_count WHERE id IN ({ids(id_ for id_, *_ in found)})")
        increment(cursor, counts)
    return _MERGED == len(found) > len(counts)
