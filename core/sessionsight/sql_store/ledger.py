"""The counters of the outbox, and what its queues have. Steps within a transaction."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from sessionsight.sql_store.dialect import UNCLAIMED
from sessionsight.stores import CAPTURED, DEAD, FALLBACK, PENDING, StoreStats, complete_counts, store_stats

__all__ = ["counts", "estimated_bytes", "stats"]

# Pending records that are counted one by one; a relay reads the counters of each lane once a second.
_MAX_COUNTED = 1000
# The newest records, whose mean size is taken for that of all.
_SAMPLE = 1000


def counts(cursor: Any, lane: str) -> Counter[str]:
    """Return the counters of a lane. All are read by one statement, so that they fit each other."""
    cursor.execute(
        "SELECT counter, sum(number) FROM sessionsight_count WHERE lane = %s GROUP BY counter"
        # From the end, because PostgreSQL has dead rows at the beginning.
        f" UNION ALL SELECT '{PENDING}', count(*) FROM (SELECT 1 FROM sessionsight_queue WHERE lane = %s"
        " ORDER BY priority DESC, id DESC LIMIT %s) AS found"
        f" UNION ALL SELECT '{DEAD}', count(*) FROM sessionsight_dead_letter WHERE lane = %s",
        [lane, lane, _MAX_COUNTED, lane],
    )
    found = Counter({counter: int(number) for counter, number in cursor.fetchall()})
    return complete_counts(found, _MAX_COUNTED)


def stats(cursor: Any) -> StoreStats:
    """Return the counters of all lanes, and count the queues. All are read by one statement."""
    cursor.execute(
        f"SELECT lane, '{PENDING}', claimed_by, count(*), min(enqueued_at), sum(size) FROM sessionsight_queue"
        " GROUP BY lane, claimed_by"
        " UNION ALL SELECT lane, counter, '', sum(number), NULL, NULL FROM sessionsight_count GROUP BY lane, counter"
        f" UNION ALL SELECT lane, '{DEAD}', '', count(*), NULL, NULL FROM sessionsight_dead_letter GROUP BY lane"
    )
    lanes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    claimed: Counter[str] = Counter()
    owners, times, size = set(), [], 0
    for lane, counter, owner, number, oldest, bytes_ in cursor.fetchall():
        lanes[lane][counter] += int(number)
        if counter == PENDING:
            times.append(oldest)
            size += int(bytes_)
            if owner != UNCLAIMED:
                claimed[lane] += number
                owners.add(owner)
    return store_stats(
        lanes,
        claimed=dict(claimed),
        oldest=min(times, default=None),
        used_bytes=size,
        owners=len(owners),
        schema=1,
    )


def estimated_bytes(cursor: Any) -> float:
    """Return the size of the queues, from the number of records that the counters tell and the size of the newest."""
    cursor.execute(
        f"SELECT (SELECT coalesce(sum(CASE counter WHEN '{CAPTURED}' THEN number"
        f" WHEN '{FALLBACK}' THEN 0 ELSE -number END), 0) FROM sessionsight_count)"
        " - (SELECT count(*) FROM sessionsight_dead_letter),"
        f" (SELECT coalesce(avg(size), 0) FROM (SELECT size FROM sessionsight_queue ORDER BY id DESC LIMIT {_SAMPLE})"
        " AS newest)"
    )
    number, size = cursor.fetchone()
    return float(number) * float(size)
