"""Store of requests and records in SQLite, in memory or in a file.

One connection and one lock are enough, because each query uses an index and is short.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec

from sessionsight.inspector import aggregates, schema, visits
from sessionsight.inspector.filters import Filter
from sessionsight.inspector.model import (
    Counts,
    GoalTotal,
    InspectedRecord,
    RecordedRequest,
    RecordPage,
    SessionSummary,
    VendorHealth,
    Visit,
)

__all__ = ["MAX_BYTES", "MAX_RECORDS", "Store"]

Listener = Callable[[list[InspectedRecord]], None]

MAX_RECORDS = 100_000
MAX_BYTES = 512 * 1024 * 1024


class Store:
    """The newest requests and records. Thread-safe.

    Args:
        path: Database file, created if it is missing. In memory by default.
        max_records: Most records and most requests; the oldest are removed.
        max_bytes: Most bytes of requests; the oldest are removed.

    Raises:
        sqlite3.Error: The file cannot be used, or is another program's.
    """

    def __init__(
        self, path: str | Path = ":memory:", max_records: int = MAX_RECORDS, *, max_bytes: int = MAX_BYTES
    ) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False)
        try:
            schema.prepare(self._db)
        except sqlite3.Error:
            self._db.close()
            raise
        self._sizes = deque(self._db.execute("SELECT id, size FROM requests ORDER BY id"))
        self._bytes = sum(size for _, size in self._sizes)
        self._listeners: list[Listener] = []
        self.flags: dict[str, bool | str] = {}
        """Feature flags of all visitors, set on the health page or by the API. Not kept in the file."""
        self.cleared = 0
        """Number of times that everything was removed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database, which deletes an in-memory one."""
        with self._lock:
            self._db.close()

    # --- Writing ----------------------------------------------------------------------------------

    def add(self, received: RecordedRequest, records: Sequence[InspectedRecord] = ()) -> list[InspectedRecord]:
        """Add a request and its records; return the records with their ids."""
        with self._lock, self._db:
            request_id, size = schema.insert_request(self._db, received)
            added = schema.insert_records(self._db, request_id, records)
            self._sizes.append((request_id, size))
            self._bytes += size
            self._trim(request_id, added[-1].id if added else 0)
        self._notify(added)
        return added

    def clear(self) -> int:
        """Remove everything; return the number of records."""
        with self._lock, self._db:
            removed = self._db.execute("DELETE FROM records").rowcount
            self._db.execute("DELETE FROM requests")
            self._sizes.clear()
            self._bytes = 0
            self.cleared += 1
        self._notify([])
        return removed

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """Call a function with the records that each change added, or an empty list when all were removed.

        It is called on the thread of the change, and must neither raise nor block.
        """
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def _notify(self, added: list[InspectedRecord]) -> None:
        for listener in tuple(self._listeners):
            listener(added)

    def _trim(self, newest_request: int, newest_record: int) -> None:
        """Remove what is over the limits. Ids are contiguous from the oldest one that is left."""
        records_to = newest_record - self._max_records
        if records_to > 0:
            self._db.execute("DELETE FROM records WHERE id <= ?", (records_to,))
        requests_to = newest_request - self._max_records
        if records_to > 0:
            oldest = self._db.execute("SELECT request_id FROM records ORDER BY id LIMIT 1").fetchone()
            requests_to = max(requests_to, oldest[0] - 1 if oldest else 0)
        while self._sizes and (self._sizes[0][0] <= requests_to or self._bytes > self._max_bytes):
            request_id, size = self._sizes.popleft()
            self._bytes -= size
            self._db.execute("DELETE FROM requests WHERE id = ?", (request_id,))
            self._db.execute("DELETE FROM records WHERE request_id = ?", (request_id,))

    # --- Reading ----------------------------------------------------------------------------------

    def records(self, filter: Filter, *, before: int | None = None, limit: int = 50) -> RecordPage:  # noqa: A002 - the word
        """Return the newest matching records; `before` is the cursor of the next page."""
        where, values = schema.condition(filter)
        if before is not None:
            where, values = f"{where} AND id < ?", [*values, before]
        found = self._select(f"WHERE {where} ORDER BY id DESC LIMIT ?", *values, limit + 1)
        return RecordPage(found[:limit], found[limit - 1].id if len(found) > limit else None)

    def count(self, filter: Filter) -> int:  # noqa: A002 - the word
        """Return the number of matching records."""
        where, values = schema.condition(filter)
        return int(self._rows(f"SELECT count(*) FROM records WHERE {where}", *values)[0][0])  # noqa: S608 - our words

    def newest(self) -> int:
        """Return the id of the newest record; 0 if there is none."""
        return int(self._rows("SELECT max(id) FROM records")[0][0] or 0)

    def since(self, record_id: int, *, limit: int = 1000) -> list[InspectedRecord]:
        """Return the records after this one, oldest first."""
        return self._select("WHERE id > ? ORDER BY id LIMIT ?", record_id, limit)

    def record(self, id: int) -> InspectedRecord | None:  # noqa: A002 - the word
        """Return one record."""
        found = self._select("WHERE id = ?", id)
        return found[0] if found else None

    def request(self, id: int) -> RecordedRequest | None:  # noqa: A002 - the word
        """Return one request."""
        found = self._rows("SELECT * FROM requests WHERE id = ?", id)
        return schema.request(found[0]) if found else None

    def siblings(self, request_id: int) -> list[InspectedRecord]:
        """Return the records of one request in their order."""
        return self._select("WHERE request_id = ? ORDER BY id", request_id)

    def visit(self, session_id: str) -> Visit | None:
        """Return a session's records and those linked to it (see `visits`); None if the id is unknown."""
        with self._lock:
            found = visits.visit_of(self._db, session_id)
            if found is None:
                return None
            ids = msgspec.json.encode([row["id"] for row in found.rows]).decode()
            by_id = {record.id: record for record in self._select("WHERE id IN (SELECT value FROM json_each(?))", ids)}
        return Visit(
            session_id=found.session_id,
            sessions=found.sessions,
            records=[by_id[row["id"]] for row in found.rows],
            user_id=found.user_id,
            linked_by_time=found.by_time,
        )

    def session(self, session_id: str) -> list[InspectedRecord]:
        """Return the records of `visit`; an empty list if the id is unknown."""
        visit = self.visit(session_id)
        return [] if visit is None else visit.records

    # --- Aggregates -------------------------------------------------------------------------------------

    def sessions(self, *, limit: int = 50, before: int | None = None) -> list[SessionSummary]:
        """Return the visits with the newest records; `before` is the `cursor` of the last one of a page."""
        with self._lock:
            return aggregates.sessions(self._db, limit=limit, before=before)

    def goals(self) -> list[GoalTotal]:
        """Return the totals of all goals, the latest first."""
        with self._lock:
            return aggregates.goals(self._db)

    def goal(self, goal_id: str) -> GoalTotal | None:
        """Return the total of one goal."""
        with self._lock:
            return next(iter(aggregates.goals(self._db, goal_id)), None)

    def goal_series(self, goal_id: str, buckets: int = 48) -> list[tuple[float, float]]:
        """Return times and the totals at these times, from the goal's first record to its last."""
        with self._lock:
            return aggregates.goal_series(self._db, goal_id, buckets)

    def health(self, *, now: float | None = None) -> list[VendorHealth]:
        """Return the health of each vendor's endpoints."""
        with self._lock:
            return aggregates.health(self._db, now=time.time() if now is None else now)

    def counts(self) -> Counts:
        """Return the numbers of records by vendor and kind."""
        with self._lock:
            return aggregates.counts(self._db)

    # --- Rows -------------------------------------------------------------------------------------

    def _select(self, tail: str, *values: Any) -> list[InspectedRecord]:
        return [schema.record(row) for row in self._rows(f"SELECT * FROM records {tail}", *values)]  # noqa: S608 - ours

    def _rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(query, values).fetchall()
