"""A store in a SQL database, whose connections a host opens."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from sessionsight.log import ThrottledLogger
from sessionsight.sql_store import dead_letters, inbox, maintenance, queue
from sessionsight.sql_store.connection import OwnConnection
from sessionsight.sql_store.dialect import contains, marks
from sessionsight.sql_store.inbox import UNCLAIMED
from sessionsight.stores import (
    DEAD,
    FALLBACK,
    MAX_COUNTED,
    PENDING,
    Claim,
    Claimed,
    Clock,
    Counts,
    DeadLetterQuery,
    DeliveryOptions,
    Enqueued,
    Failure,
    NewRecord,
    Outcome,
    StoredDeadLetter,
    StoredRecord,
    StoreError,
    StoreStats,
    StoreUnavailable,
    complete_counts,
    lane_stats,
)

__all__ = ["SqlStore"]

_PRUNE_EVERY = 60.0
# Seconds for which the end of a process may wait for the database.
_CLOSE_TIMEOUT = 1.0
# Seconds after which a claim looks again at records with a lower id than the last one.
_RESET_FLOORS_EVERY = 60.0
# Batches of the inbox that are taken in before counters are read, which a relay does once a second.
_COUNTED_BATCHES = 10


class SqlStore:
    """A `Store` over a connection of its own.

    Claims belong to a random id, and are valid for the `lease`, by the server's clock.

    Args:
        name: The store's name in log messages.
        own: The connection.
        options: Bounds and time limits.
        logger: For records that could not be written.
        clock: The time of maintenance.
        timeout: Seconds for which calls without a timeout of their own may wait for other threads.
    """

    epoch = 1
    lease = 30.0
    """Seconds after which a process that the server has not heard of counts as ended."""

    def __init__(
        self,
        name: str,
        own: OwnConnection,
        options: DeliveryOptions,
        logger: ThrottledLogger,
        *,
        clock: Clock = time,
        timeout: float = 5.0,
    ) -> None:
        self.name = name
        self.owner = secrets.token_hex(16)
        """The id under which this process claims records."""
        self._options = options
        self._logger = logger
        self._clock = clock
        self._timeout = timeout
        self._own = own
        self._floors: dict[tuple[str, int], int] = {}
        self._reset_floors_at = 0.0
        # The inbox has more than one batch. It is then taken in when the queues have run dry, and by each poll.
        self._behind = False
        self._next_prune = 0.0
        self._closed = False

    # --- capture ---------------------------------------------------------------------------------

    @property
    def joins(self) -> bool:
        """True if `enqueue` writes into an open transaction of the calling code."""
        return False

    def enqueue(self, records: Sequence[NewRecord], counts: Counts, *, batch_id: bytes, timeout: float) -> Enqueued:
        """Add a row to the inbox. Which records are duplicates is known when a relay has taken it in."""
        self._add(inbox.row(records, counts, batch_id), timeout)
        return Enqueued([{}] * len(records), {})

    def _add(self, row: tuple[str, bytes], timeout: float) -> None:
        self._check_open()
        self._own.run(partial(inbox.insert, columns=row), timeout)

    # --- claims ----------------------------------------------------------------------------------

    def claim(self, lane: str, *, max_records: int, max_bytes: int, timeout: float) -> Claimed:
        """Claim a lane's next records, by priority."""
        if not self._behind:
            self._take_in_batch(timeout)
        floors = self._current_floors()

        def claim() -> tuple[list[Any], bool]:
            with self._transaction(timeout) as cursor:
                queue.renew(cursor, self.owner, self.lease)
                return queue.claim(cursor, lane, self.owner, floors, max_records=max_records, max_bytes=max_bytes)

        chosen, more = claim()
        if self._behind and not chosen:
            self._take_in_batch(timeout)
            chosen, more = claim()
        floors.update({(lane, priority): id_ for id_, _, _, priority in chosen})
        claims = [Claim(id_, enqueued_at, bytes(body)) for id_, enqueued_at, body, _ in chosen]
        return Claimed(self.epoch, claims, more or self._behind)

    def claimed(self, lane: str) -> Claimed:
        """Return the records that this process has claimed and that are not in flight."""
        found = self._read(
            "SELECT id, enqueued_at, body FROM sessionsight_queue"
            " WHERE lane = %s AND claimed_by = %s AND in_flight = %s ORDER BY id",
            [lane, self.owner, False],
        )
        return Claimed(self.epoch, [Claim(id_, at, bytes(body)) for id_, at, body in found], more=False)

    def mark_in_flight(self, lane: str, handles: Sequence[int], *, timeout: float) -> tuple[int, set[int]]:
        """Set the in-flight flag of the records that this process still holds."""
        where, held = self._held(handles)
        with self._transaction(timeout) as cursor:
            cursor.execute(f"UPDATE sessionsight_queue SET in_flight = %s WHERE {where}", [True, *held])
            cursor.execute(f"SELECT id FROM sessionsight_queue WHERE {where}", held)
            return self.epoch, {id_ for (id_,) in cursor.fetchall()}

    def settle(self, lane: str, outcomes: Sequence[Outcome], *, timeout: float) -> None:
        """Apply outcomes."""
        with self._transaction(timeout) as cursor:
            counts: Counter[tuple[str, str]] = Counter()
            for outcome in outcomes:
                where, held = self._held(outcome.handles)
                if outcome.failure is not None:
                    dead_letters.add_queued(cursor, where, held, outcome.failure)
                elif outcome.counter is not None:
                    cursor.execute(f"DELETE FROM sessionsight_queue WHERE {where}", held)
                    counts[lane, outcome.counter] += cursor.rowcount
                else:
                    cursor.execute(f"UPDATE sessionsight_queue SET in_flight = %s WHERE {where}", [False, *held])
                    cursor.execute(
                        "UPDATE sessionsight_owner SET on_trial = 0"
                        f" WHERE on_trial IN ({marks(outcome.handles)}) AND owner = %s",
                        held,
                    )
            if any(outcome.failure is not None for outcome in outcomes):
                dead_letters.trim(cursor, lane, keep=self._options.dead_letters)
            dead_letters.increment(cursor, counts)

    def recover(self, in_flight: Failure | None, poison: Failure) -> tuple[int, int]:
        """Renew this process's lease, and recover the claims of processes whose lease is over."""
        with self._transaction(self._timeout) as cursor:
            queue.renew(cursor, self.owner, self.lease)
            ended, dead = queue.recover_ended(cursor, in_flight, poison, keep=self._options.dead_letters)
        if ended:
            self._floors.clear()
        return dead

    def close(self) -> None:
        """Release this process's claims that are not in flight, and close the connection."""
        if not self._closed and self._own.is_open:
            with contextlib.suppress(StoreError):  # its lease will be over
                self._own.run(partial(queue.release_all, owner=self.owner), _CLOSE_TIMEOUT)
        self._closed = True
        self._own.close()

    # --- reads -----------------------------------------------------------------------------------

    def ready(self) -> list[str]:
        """Return the lanes that have unclaimed records."""
        self._take_in_batch(self._timeout)
        floors = self._current_floors()
        with self._transaction(self._timeout) as cursor:
            cursor.execute("SELECT DISTINCT lane FROM sessionsight_count")
            lanes = [lane for (lane,) in cursor.fetchall()]
            return [lane for lane in lanes if queue.has_ready(cursor, lane, floors)]

    def last_handle(self) -> int | None:
        """Return the handle of the newest record."""
        self._take_in(self._timeout)
        [(newest,)] = self._read("SELECT max(id) FROM sessionsight_queue")
        return None if newest is None else int(newest)

    def count_unresolved(self, lane: str, *, last: int | None = None) -> int:
        """Return the number of records that this process or no process has claimed, up to a hundred."""
        self._take_in(self._timeout)
        highest = 2**63 - 1 if last is None else last
        [(number,)] = self._read(
            "SELECT count(*) FROM (SELECT 1 FROM sessionsight_queue"
            " WHERE lane = %s AND claimed_by IN (%s, %s) AND id <= %s LIMIT 100) AS found",
            [lane, UNCLAIMED, self.owner, highest],
        )
        return int(number)

    def owned_or_ready(self, lane: str, handles: Sequence[int], *, timeout: float) -> set[int]:
        """Return those of the handles that this process or no process has claimed."""
        found = self._read(
            f"SELECT id FROM sessionsight_queue WHERE claimed_by IN (%s, %s) AND id IN ({marks(handles)})",
            [UNCLAIMED, self.owner, *handles],
        )
        return {id_ for (id_,) in found}

    def search(self, lane: str, fragment: bytes) -> list[StoredRecord]:
        """Return the queued records whose body contains these bytes. All bodies are read."""
        self._take_in(self._timeout)
        with self._transaction(self._timeout) as cursor:
            cursor.execute(
                f"SELECT id, body, claimed_by FROM sessionsight_queue WHERE lane = %s AND {contains(cursor.db)}",
                [lane, fragment],
            )
            return [StoredRecord(id_, bytes(body), owner == UNCLAIMED) for id_, body, owner in cursor.fetchall()]

    def counts(self, lane: str) -> Counter[str]:
        """Return the lane's counters, without what a very long inbox has after its first batches."""
        self._take_in(self._timeout, batches=_COUNTED_BATCHES)
        return self._counts(lane, most=MAX_COUNTED)

    def _counts(self, lane: str, *, most: int) -> Counter[str]:
        """Return counters, for which pending records are counted up to `most`."""
        found = self._read(
            "SELECT counter, sum(number) FROM sessionsight_count WHERE lane = %s GROUP BY counter"
            f" UNION ALL SELECT '{PENDING}', count(*) FROM"
            " (SELECT 1 FROM sessionsight_queue WHERE lane = %s LIMIT %s) AS found"
            f" UNION ALL SELECT '{DEAD}', count(*) FROM sessionsight_dead_letter WHERE lane = %s",
            [lane, lane, most, lane],
        )
        return complete_counts(Counter({counter: int(number) for counter, number in found}), most)

    def stats(self) -> StoreStats:
        """Return the counters of all lanes, and the size of the store."""
        self._take_in(self._timeout)
        lanes = {
            lane: self._counts(lane, most=2**62)
            for (lane,) in self._read("SELECT DISTINCT lane FROM sessionsight_count")
        }
        [(oldest, size)] = self._read("SELECT min(enqueued_at), coalesce(sum(size), 0) FROM sessionsight_queue")
        claims = self._read(
            "SELECT lane, claimed_by, count(*) FROM sessionsight_queue WHERE claimed_by <> %s"
            " GROUP BY lane, claimed_by",
            [UNCLAIMED],
        )
        claimed: Counter[str] = Counter()
        for lane, _, number in claims:
            claimed[lane] += number
        return StoreStats(
            lanes={lane: lane_stats(found, state="-", last_error=None) for lane, found in sorted(lanes.items())},
            claimed=dict(claimed),
            oldest=oldest,
            bypassed=sum(found[FALLBACK] for found in lanes.values()),
            used_bytes=int(size),
            owners=len({owner for _, owner, _ in claims}),
            schema=1,
        )

    # --- dead letters ----------------------------------------------------------------------------

    def find(self, query: DeadLetterQuery, *, limit: int = -1) -> list[StoredDeadLetter]:
        """Return the selected dead letters, oldest first."""
        self._take_in(self._timeout)
        with self._transaction(self._timeout) as cursor:
            return dead_letters.find(cursor, query, limit)

    def requeue(self, query: DeadLetterQuery) -> int:
        """Queue the selected dead letters again."""
        with self._transaction(self._timeout) as cursor:
            return dead_letters.requeue(cursor, query)

    def delete(self, query: DeadLetterQuery, *, counter: str) -> int:
        """Delete the selected dead letters, and count them as dropped."""
        with self._transaction(self._timeout) as cursor:
            return dead_letters.delete(cursor, query, counter=counter)

    def discard(self, lane: str, handles: Sequence[int], *, counter: str) -> int:
        """Drop unclaimed records."""
        if not handles:
            return 0
        with self._transaction(self._timeout) as cursor:
            cursor.execute(
                f"DELETE FROM sessionsight_queue WHERE id IN ({marks(handles)}) AND claimed_by = %s",
                [*handles, UNCLAIMED],
            )
            number = int(cursor.rowcount)
            dead_letters.increment(cursor, {(lane, counter): number})
            return number

    # --- maintenance -----------------------------------------------------------------------------

    def check(self) -> Mapping[str, Sequence[Claim]]:
        """Return nothing: a database is not replaced while it is open."""
        return {}

    def maintain(self) -> None:
        """Delete what is too old or too much, and merge rows of counters, once a minute."""
        if self._clock.monotonic() < self._next_prune:
            return
        self._next_prune = self._clock.monotonic() + _PRUNE_EVERY
        with self._transaction(self._timeout) as cursor:
            maintenance.maintain(cursor, self._options)

    # --- inside ----------------------------------------------------------------------------------

    def _take_in(self, timeout: float, *, batches: float = float("inf")) -> None:
        """Take in what is in the inbox, up to this number of batches."""
        self._take_in_batch(timeout)
        while self._behind and (batches := batches - 1) > 0:
            self._take_in_batch(timeout)

    def _take_in_batch(self, timeout: float) -> None:
        with self._transaction(timeout) as cursor:
            self._behind = inbox.take_in(cursor, self._options)

    def _current_floors(self) -> dict[tuple[str, int], int]:
        """Return lane and priority, to the id of the last claim; empty once a minute."""
        if self._clock.monotonic() >= self._reset_floors_at:
            self._floors.clear()
            self._reset_floors_at = self._clock.monotonic() + _RESET_FLOORS_EVERY
        return self._floors

    def _held(self, handles: Sequence[int]) -> tuple[str, list[Any]]:
        """Return the condition for records that this process holds, and its parameters."""
        return f"id IN ({marks(handles)}) AND claimed_by = %s", [*handles, self.owner]

    def _read(self, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
        with self._transaction(self._timeout) as cursor:
            cursor.execute(statement, parameters)
            rows: list[Any] = cursor.fetchall()
            return rows

    @contextlib.contextmanager
    def _transaction(self, timeout: float) -> Iterator[Any]:
        self._check_open()
        with self._own.transaction(timeout) as cursor:
            yield cursor

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the spool is closed")
