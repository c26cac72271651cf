"""A store in a SQL database, whose connections a host opens."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from sessionsight.log import ThrottledLogger
from sessionsight.sql_store import inbox, ledger, maintenance, queue
from sessionsight.sql_store.connection import OwnConnection
from sessionsight.sql_store.dead_letters import dead_letters, increment, requeue
from sessionsight.sql_store.dialect import contains, ids, locked, server_time
from sessionsight.sql_store.inbox import UNCLAIMED
from sessionsight.sql_store.reach import Reach, claims_of
from sessionsight.stores import (
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
    StoreError,
    StoreStats,
    StoreUnavailable,
)

__all__ = ["SqlStore"]

T = TypeVar("T")

_PRUNE_EVERY = 60.0
# Seconds for which the end of a process may wait for the database.
_CLOSE_TIMEOUT = 1.0
# Seconds after which a claim looks again at records with a lower id than the last one.
_RESET_FLOORS_EVERY = 60.0
# Batches of the inbox that are taken in before counters are read, which a relay does once a second.
_COUNTED_BATCHES = 10
# One maintenance of so many adds up all sizes in any case.
_EXACT_EVERY = 60


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
        # Lane and priority, to the id up to which the database knows that this process may have claims.
        self._reach: dict[tuple[str, int], int] = {}
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
        self._own.run(partial(inbox.insert, columns=row), timeout, patience=timeout)

    # --- claims ----------------------------------------------------------------------------------

    def claim(self, lane: str, *, max_records: int, max_bytes: int, timeout: float) -> Claimed:
        """Claim a lane's next records, by priority."""
        floors = self._current_floors()
        take = partial(
            queue.claim,
            lane=lane,
            owner=self.owner,
            floors=floors,
            reach=self._reach,
            lease=self.lease,
            max_records=max_records,
            max_bytes=max_bytes,
        )

        def claim(cursor: Any) -> tuple[list[Any], bool, Reach]:
            if not self._behind:
                self._behind = inbox.take_in(cursor, self._options)
            found = take(cursor)
            if self._behind and not found[0]:
                self._behind = inbox.take_in(cursor, self._options)
                found = take(cursor)
            return found

        # A crash of the server may undo a claim, but not what was taken in, nor the mark of records in flight, which
        # is written after it.
        chosen, more, extended = self._run(claim, timeout, durable=False)
        self._reach.update(extended)
        floors.update({(lane, priority): id_ for id_, _, _, priority in chosen})
        claims = [Claim(id_, enqueued_at, bytes(body)) for id_, enqueued_at, body, _ in chosen]
        return Claimed(self.epoch, claims, more or self._behind)

    def claimed(self, lane: str) -> Claimed:
        """Return the records that this process has claimed and that are not in flight."""

        def claimed(cursor: Any) -> list[Any]:
            where, held = self._held(claims_of(cursor, self.owner))
            cursor.execute(
                "SELECT id, enqueued_at, body FROM sessionsight_queue"
                f" WHERE {where} AND lane = %s AND in_flight = %s ORDER BY id",
                [*held, lane, False],
            )
            return list(cursor.fetchall())

        found = self._run(claimed)
        return Claimed(self.epoch, [Claim(id_, at, bytes(body)) for id_, at, body in found], more=False)

    def mark_in_flight(self, lane: str, handles: Sequence[int], *, timeout: float) -> tuple[int, set[int]]:
        """Set the in-flight flag of the records that this process still holds."""
        where, held = self._held(handles)

        def mark(cursor: Any) -> set[int]:
            cursor.execute(f"UPDATE sessionsight_queue SET in_flight = %s WHERE {where}", [True, *held])
            if cursor.rowcount == len(handles):  # fewer if some are in flight already, in MySQL
                return set(handles)
            cursor.execute(f"SELECT id FROM sessionsight_queue WHERE {where}", held)
            return {id_ for (id_,) in cursor.fetchall()}

        return self.epoch, self._run(mark, timeout)

    def settle(self, lane: str, outcomes: Sequence[Outcome], *, timeout: float) -> None:
        """Apply outcomes."""

        def settle(cursor: Any) -> None:
            counts: Counter[tuple[str, str]] = Counter()
            for outcome in outcomes:
                where, held = self._held(outcome.handles)
                if outcome.failure is not None:
                    # Another process may recover them between the statements of `bury`.
                    cursor.execute(f"SELECT id FROM sessionsight_queue WHERE {where}{locked(cursor.db)}", held)
                    dead_letters.bury(cursor, where, held, outcome.failure, died_at=server_time(cursor))
                elif outcome.counter is not None:
                    cursor.execute(f"DELETE FROM sessionsight_queue WHERE {where}", held)
                    counts[lane, outcome.counter] += cursor.rowcount
                else:
                    cursor.execute(f"UPDATE sessionsight_queue SET in_flight = %s WHERE {where}", [False, *held])
                    cursor.execute(
                        "UPDATE sessionsight_owner SET on_trial = 0"
                        f" WHERE on_trial IN ({ids(outcome.handles)}) AND owner = %s",
                        held,
                    )
            if any(outcome.failure is not None for outcome in outcomes):
                dead_letters.trim(cursor, keep=self._options.dead_letters)
            increment(cursor, counts)

        self._run(settle, timeout)

    def recover(self, in_flight: Failure | None, poison: Failure) -> tuple[int, int]:
        """Renew this process's lease, and recover the claims of processes whose lease is over."""

        def recover(cursor: Any) -> tuple[int, tuple[int, int]]:
            queue.renew(cursor, self.owner, self.lease, self._reach)
            return queue.recover_ended(cursor, in_flight, poison, keep=self._options.dead_letters)

        ended, dead = self._run(recover)
        if ended:
            self._floors.clear()
        return dead

    def close(self) -> None:
        """Release this process's claims that are not in flight, and close the connection."""
        if not self._closed and self._own.is_open:
            with contextlib.suppress(StoreError):  # its lease will be over
                self._own.run(partial(queue.release_all, owner=self.owner), _CLOSE_TIMEOUT, patience=_CLOSE_TIMEOUT)
        self._closed = True
        self._own.close()

    # --- reads -----------------------------------------------------------------------------------

    def ready(self) -> list[str]:
        """Return the lanes that have unclaimed records."""
        self._take_in(batches=1)
        floors = self._current_floors()

        def ready(cursor: Any) -> list[str]:
            cursor.execute("SELECT DISTINCT lane FROM sessionsight_count")
            lanes = [lane for (lane,) in cursor.fetchall()]
            return [lane for lane in lanes if queue.has_ready(cursor, lane, floors)]

        return self._run(ready)

    def unresolved(self, lane: str) -> tuple[int, int] | None:
        """Return the lowest and the highest id of the records that this process or no process has claimed."""
        self._take_in(batches=_COUNTED_BATCHES)
        if self._behind:  # what is still in the inbox may be of this lane
            return 0, 2**63 - 1
        return self._run(partial(queue.unresolved, lane=lane, owner=self.owner))

    def owned_or_ready(self, lane: str, handles: Sequence[int], *, timeout: float) -> set[int]:
        """Return those of the handles that this process or no process has claimed."""
        found = self._read(
            f"SELECT id FROM sessionsight_queue WHERE claimed_by IN (%s, %s) AND id IN ({ids(handles)})",
            [UNCLAIMED, self.owner],
        )
        return {id_ for (id_,) in found}

    def search(self, lane: str, fragment: bytes) -> list[Claim]:
        """Return the queued records whose body contains these bytes. All bodies are read."""
        self._take_in()

        def search(cursor: Any) -> list[Claim]:
            cursor.execute(
                f"SELECT id, enqueued_at, body FROM sessionsight_queue WHERE lane = %s AND {contains(cursor.db)}",
                [lane, fragment],
            )
            return [Claim(id_, at, bytes(body)) for id_, at, body in cursor.fetchall()]

        return self._run(search)

    def counts(self, lane: str) -> Counter[str]:
        """Return the lane's counters, without what a very long inbox has after its first batches."""
        self._take_in(batches=_COUNTED_BATCHES)
        return self._run(partial(ledger.counts, lane=lane))

    def stats(self) -> StoreStats:
        """Return the counters of all lanes, and the size of the store."""
        self._take_in()
        return self._run(ledger.stats)

    # --- dead letters ----------------------------------------------------------------------------

    def find(self, query: DeadLetterQuery, *, limit: int = -1) -> list[StoredDeadLetter]:
        """Return the selected dead letters, oldest first."""
        self._take_in()
        return self._run(partial(dead_letters.find, query=query, limit=limit))

    def requeue(self, query: DeadLetterQuery) -> int:
        """Queue the selected dead letters again."""
        return self._run(partial(requeue, query=query))

    def delete(self, query: DeadLetterQuery, *, counter: str) -> int:
        """Delete the selected dead letters, and count them as dropped."""
        return self._run(partial(dead_letters.delete, query=query, counter=counter))

    def discard(self, lane: str, handles: Sequence[int], *, counter: str) -> int:
        """Drop unclaimed records."""
        if not handles:
            return 0

        def discard(cursor: Any) -> int:
            cursor.execute(
                f"DELETE FROM sessionsight_queue WHERE id IN ({ids(handles)}) AND claimed_by = %s",
                [UNCLAIMED],
            )
            number = int(cursor.rowcount)
            increment(cursor, {(lane, counter): number})
            return number

        return self._run(discard)

    # --- maintenance -----------------------------------------------------------------------------

    def check(self) -> Mapping[str, Sequence[Claim]]:
        """Return nothing: a database is not replaced while it is open."""
        return {}

    def maintain(self) -> None:
        """Delete what is too old or too much, and merge rows of counters, once a minute."""
        if self._clock.monotonic() < self._next_prune:
            return
        self._next_prune = self._clock.monotonic() + _PRUNE_EVERY
        # The estimate may be wrong, so about once an hour it does not count.
        exact = secrets.randbelow(_EXACT_EVERY) == 0
        self._run(partial(maintenance.maintain, options=self._options, exact=exact))

    # --- inside ----------------------------------------------------------------------------------

    def _take_in(self, *, batches: float = float("inf")) -> None:
        """Take in what is in the inbox, up to this number of batches."""
        while batches > 0:
            batches -= 1
            self._behind = self._run(partial(inbox.take_in, options=self._options))
            if not self._behind:
                break

    def _current_floors(self) -> dict[tuple[str, int], int]:
        """Return lane and priority, to the id of the last claim; empty once a minute."""
        if self._clock.monotonic() >= self._reset_floors_at:
            self._floors.clear()
            self._reach.clear()  # so that it is written again: a standby that has become the server may lack it
            self._reset_floors_at = self._clock.monotonic() + _RESET_FLOORS_EVERY
        return self._floors

    def _held(self, handles: Sequence[int]) -> tuple[str, list[Any]]:
        """Return the condition for records that this process holds, and its parameters."""
        return f"id IN ({ids(handles)}) AND claimed_by = %s", [self.owner]

    def _read(self, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
        def read(cursor: Any) -> list[Any]:
            cursor.execute(statement, parameters)
            rows: list[Any] = cursor.fetchall()
            return rows

        return self._run(read)

    def _run(self, step: Callable[[Any], T], timeout: float | None = None, *, durable: bool = True) -> T:
        """Run a step in a transaction."""
        self._check_open()
        return self._own.run(step, self._timeout if timeout is None else timeout, durable=durable)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the spool is closed")
