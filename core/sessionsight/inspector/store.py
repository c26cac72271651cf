"""Keeps requests and records in SQLite, in memory or in a file, and answers what pages and the API ask.

One connection, one lock: every query is short, since each has its index.
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
    Page,
    RecordedRequest,
    SessionSummary,
    VendorHealth,
    Visit,
)

__all__ = ["MAX_BYTES", "MAX_RECORDS", "Store"]

Listener = Callable[[list[InspectedRecord]], None]

MAX_RECORDS = 100_000
MAX_BYTES = 512 * 1024 * 1024


class Store:
    """What was received, the newest of it.

    It may be used from several threads.

    Args:
        path: A database file, made when it is missing; in memory by default.
        max_records: The oldest records beyond this number are removed, and the oldest requests.
        max_bytes: The same for what requests take.

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
        self.cleared = 0
        """How many times everything was removed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; what is in memory is gone."""
        with self._lock:
            self._db.close()

    # --- Writing ----------------------------------------------------------------------------------

    def add(self, received: RecordedRequest, records: Sequence[InspectedRecord] = ()) -> list[InspectedRecord]:
        """Keep a request and its records; gives the records with their ids."""
        with self._lock, self._db:
            request_id, size = schema.insert_request(self._db, received)
            added = schema.insert_records(self._db, request_id, records)
            self._sizes.append((request_id, size))
            self._bytes += size
            self._trim(request_id, added[-1].id if added else 0)
        self._tell(added)
        return added

    def clear(self) -> int:
        """Remove everything; gives the number of records."""
        with self._lock, self._db:
            removed = self._db.execute("DELETE FROM records").rowcount
            self._db.execute("DELETE FROM requests")
            self._sizes.clear()
            self._bytes = 0
            self.cleared += 1
        self._tell([])
        return removed

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """Tell a function of each change: of what was added, of nothing when all was removed.

        It is called by whichever thread made the change, and must neither raise nor take long.
        """
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def _tell(self, added: list[InspectedRecord]) -> None:
        for listener in tuple(self._listeners):
            listener(added)

    def _trim(self, newest_request: int, newest_record: int) -> None:
        """Remove what is over the bounds. Ids have no holes but where all older ones are gone."""
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

    def records(self, filter: Filter, *, before: int | None = None, limit: int = 50) -> Page:  # noqa: A002 - the word
        """The newest records that the filter wants; `before` a cursor, for the next page."""
        where, values = schema.condition(filter)
        if before is not None:
            where, values = f"{where} AND id < ?", [*values, before]
        found = self._select(f"WHERE {where} ORDER BY id DESC LIMIT ?", *values, limit + 1)
        return Page(found[:limit], found[limit - 1].id if len(found) > limit else None)

    def count(self, filter: Filter) -> int:  # noqa: A002 - the word
        """How many records the filter wants."""
        where, values = schema.condition(filter)
        return int(self._rows(f"SELECT count(*) FROM records WHERE {where}", *values)[0][0])  # noqa: S608 - our words

    def newest(self) -> int:
        """The newest record's id, 0 without any."""
        return int(self._rows("SELECT max(id) FROM records")[0][0] or 0)

    def since(self, record_id: int, *, limit: int = 1000) -> list[InspectedRecord]:
        """The records that came after this one, oldest first."""
        return self._select("WHERE id > ? ORDER BY id LIMIT ?", record_id, limit)

    def record(self, id: int) -> InspectedRecord | None:  # noqa: A002 - the word
        """One record."""
        found = self._select("WHERE id = ?", id)
        return found[0] if found else None

    def request(self, id: int) -> RecordedRequest | None:  # noqa: A002 - the word
        """One request."""
        found = self._rows("SELECT * FROM requests WHERE id = ?", id)
        return schema.request(found[0]) if found else None

    def siblings(self, request_id: int) -> list[InspectedRecord]:
        """The records of one request, in their order."""
        return self._select("WHERE request_id = ? ORDER BY id", request_id)

    def visit(self, session_id: str) -> Visit | None:
        """A session's records as they occurred, with those tied to it; None when nothing bears its id.

        `ties` says what is tied.
        """
        with self._lock:
            found = visits.tied(self._db, session_id)
            if found is None:
                return None
            ids = msgspec.json.encode([row["id"] for row in found.rows]).decode()
            by_id = {record.id: record for record in self._select("WHERE id IN (SELECT value FROM json_each(?))", ids)}
        return Visit(
            session_id=found.session_id,
            sessions=found.sessions,
            records=[by_id[row["id"]] for row in found.rows],
            user_id=found.user_id,
            tied_by_time=found.by_time,
        )

    def session(self, session_id: str) -> list[InspectedRecord]:
        """The records of `visit`; none when nothing bears the id."""
        visit = self.visit(session_id)
        return [] if visit is None else visit.records

    # --- Sums -------------------------------------------------------------------------------------

    def sessions(self, *, limit: int = 50, before: int | None = None) -> list[SessionSummary]:
        """The visits with the newest records; `before` the `cursor` of the last one, for more."""
        with self._lock:
            return aggregates.sessions(self._db, limit=limit, before=before)

    def goals(self) -> list[GoalTotal]:
        """What the goals add up to, the latest first."""
        with self._lock:
            return aggregates.goals(self._db)

    def goal(self, goal_id: str) -> GoalTotal | None:
        """What one goal adds up to."""
        with self._lock:
            return next(iter(aggregates.goals(self._db, goal_id)), None)

    def goal_series(self, goal_id: str, buckets: int = 48) -> list[tuple[float, float]]:
        """Times and the total that was reached by then, from the goal's first record to its last."""
        with self._lock:
            return aggregates.goal_series(self._db, goal_id, buckets)

    def health(self, *, now: float | None = None) -> list[VendorHealth]:
        """How each vendor's endpoints are doing."""
        with self._lock:
            return aggregates.health(self._db, now=time.time() if now is None else now)

    def counts(self) -> Counts:
        """How many records there are, for all vendors and kinds."""
        with self._lock:
            return aggregates.counts(self._db)

    # --- Rows -------------------------------------------------------------------------------------

    def _select(self, tail: str, *values: Any) -> list[InspectedRecord]:
        return [schema.record(row) for row in self._rows(f"SELECT * FROM records {tail}", *values)]  # noqa: S608 - ours

    def _rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(query, values).fetchall()
