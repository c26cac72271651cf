"""A store in Redis that processes of all hosts share."""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from hashlib import sha1
from pathlib import Path
from struct import Struct as Layout
from typing import Any

import msgspec

from sessionsight.clock import Clock
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.stores.base import (
    Claim,
    Claimed,
    Counts,
    DeadLetterQuery,
    Enqueued,
    Failure,
    NewRecord,
    Outcome,
    StoredDeadLetter,
    StoreStats,
    store_stats,
)
from sessionsight.delivery.stores.errors import AnswerLost, StoreError, StoreUnavailable
from sessionsight.delivery.stores.redis.connection import RedisConnections, Script
from sessionsight.log import ThrottledLogger
from sessionsight.spool_url import RedisUrl

__all__ = ["RedisStore"]

_PRUNE_EVERY = 60.0
_BATCH_IDS = 100
# Size, time, priority, length of the key; the key and the body follow. As in `base.lua`.
_HEADER = Layout(">IdBH")

_HERE = Path(__file__).parent
_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.decode


def _script(header: str, methods: str) -> Script:
    source = "\n".join([header, *((_HERE / name).read_text("utf-8") for name in ("base.lua", methods))])
    return Script(source, sha1(source.encode()).hexdigest())  # noqa: S324  # Redis prescribes it


# On a server without free memory, records can still be claimed and settled.
_READ = _script("#!lua flags=no-writes", "reads.lua")
_WRITE = _script("#!lua flags=allow-oom", "writes.lua")
_ADD = _script("#!lua", "writes.lua")


class RedisStore:
    """A `Store` in Redis 7 or Valkey.

    Claims belong to a random id, not to a host or a process id. They are valid for the `lease`, by the server's clock,
    which this process renews; then another process recovers them.

    Args:
        url: The server and the namespace.
        options: Bounds and time limits.
        logger: Logs that the store was emptied.
        clock: The time of maintenance.
        timeout: Seconds for which calls without a timeout of their own may wait for the server.
    """

    joins = False
    lease = 30.0
    """Seconds after which a process that the server has not heard of counts as ended."""

    def __init__(
        self,
        url: RedisUrl,
        options: DeliveryOptions,
        logger: ThrottledLogger,
        *,
        clock: Clock = time,
        timeout: float = 1.0,
    ) -> None:
        self.name = url.name
        self.epoch = 0
        """When the first record was stored, in microseconds of the server's clock; 0 before the first contact."""
        self.owner = secrets.token_hex(8)
        """The id under which this process claims records."""
        self.wait_replicas = url.wait_replicas
        """The number of replicas for which an enqueue waits."""
        self.connections = RedisConnections(url, self._on_missing_replicas)
        self._meta = f"{{{url.namespace}}}:meta"
        self._options = options
        self._logger = logger
        self._clock = clock
        self._timeout = timeout
        # Batches that the server remembers although their answers have arrived: another thread may repeat one just now.
        self._answered: deque[str] = deque()
        self._owns = False
        self._closed = False
        self._next_prune = 0.0

    def enqueue(self, records: Sequence[NewRecord], counts: Counts, *, batch_id: bytes, timeout: float) -> Enqueued:
        """Add records to their lanes and add to the counters, and wait for replicas if the URL says so."""
        batch = batch_id.hex()
        answered = [self._answered.popleft() for _ in range(len(self._answered) - _BATCH_IDS)]
        headers = [
            (
                str(record.priority),
                record.lanes,
                record.dedupe_key or "",
                record.failure is not None and _failure(record.failure),
            )
            for record in records
        ]
        added = [(lane, counter, number) for (lane, counter), number in counts.items()]
        limits = {
            "window": int(self._options.dedupe_window * 1000),
            "keep": self._options.dead_letters,
            "max_bytes": self._options.spool_bytes,
        }
        arguments = (self.owner, batch, answered, headers, added, limits)
        values = [_to_value(record) for record in records]
        _, (first, duplicates, evicted) = self._run(
            _ADD, "enqueue", *arguments, values=values, timeout=timeout, replicated=True
        )
        self._answered.append(batch)
        known = {(at, lane.decode()) for at, lane in duplicates}
        handles = [
            {lane: int(first) + at for lane in record.lanes if (at, lane) not in known and record.failure is None}
            for at, record in enumerate(records)
        ]
        return Enqueued(handles, {lane.decode(): number for lane, number in evicted})

    def claim(self, lane: str, *, max_records: int, max_bytes: int, timeout: float) -> Claimed:
        """Claim a lane's next records, by priority."""
        return self._claims(*self._own("claim", lane, max_records, max_bytes, timeout=timeout))

    def claimed(self, lane: str) -> Claimed:
        """Return the records that this process has claimed and that are not in flight."""
        return self._claims(*self._run(_WRITE, "claimed", lane, self.owner))

    def mark_in_flight(self, lane: str, handles: Sequence[int], *, timeout: float) -> tuple[int, set[int]]:
        """Set the in-flight flag of the records that this process still holds."""
        epoch, marked = self._own("mark_in_flight", lane, _ids(handles), timeout=timeout)
        return epoch, {*map(int, marked)}

    def settle(self, lane: str, outcomes: Sequence[Outcome], *, timeout: float) -> None:
        """Apply outcomes."""
        applied = [
            (_ids(each.handles), each.counter or False, each.failure is not None and _failure(each.failure))
            for each in outcomes
        ]
        self._run(_WRITE, "settle", lane, self.owner, applied, self._options.dead_letters, timeout=timeout)

    def ready(self) -> list[str]:
        """Return the lanes that have unclaimed records."""
        return [lane.decode() for lane in self._run(_READ, "ready")[1]]

    def unresolved(self, lane: str) -> tuple[int, int] | None:
        """Return the lowest and the highest handle that this process or no process has claimed."""
        found = [*map(int, self._run(_READ, "unresolved", lane, self.owner)[1])]
        return (found[0], found[-1]) if found else None

    def owned_or_ready(self, lane: str, handles: Sequence[int], *, timeout: float) -> set[int]:
        """Return those of the handles that this process or no process has claimed."""
        _, found = self._run(_READ, "owned_or_ready", lane, self.owner, _ids(handles), timeout=timeout)
        return {*map(int, found)}

    def search(self, lane: str, fragment: bytes) -> list[Claim]:
        """Return the queued records whose body contains these bytes, in several steps, so that others need not wait."""
        found: list[Claim] = []
        cursor = b"0"
        while True:
            _, (cursor, page) = self._run(_READ, "search", lane, cursor.decode(), values=[fragment])
            found += [_claim(handle, value) for handle, value in page]
            if cursor == b"0":
                return found

    def discard(self, lane: str, handles: Sequence[int], *, counter: str) -> int:
        """Drop unclaimed records."""
        number: int = self._run(_WRITE, "discard", lane, _ids(handles), counter)[1]
        return number

    def counts(self, lane: str) -> Counter[str]:
        """Return the lane's counters."""
        return _counter(self._run(_READ, "counts", lane)[1])

    def stats(self) -> StoreStats:
        """Return the counters of all lanes, and the size of the store."""
        counts, oldest, size, owners, schema = self._run(_READ, "overview")[1]
        lanes = {lane.decode(): _counter(found) for lane, found, _ in counts}
        return store_stats(
            lanes,
            claimed={lane.decode(): number for lane, _, number in counts if number},
            oldest=None if oldest is None else float(oldest),
            used_bytes=int(size),
            owners=owners,
            schema=int(schema),
        )

    def find(self, query: DeadLetterQuery, *, limit: int = -1) -> list[StoredDeadLetter]:
        """Return the selected dead letters, oldest first."""
        return [
            StoredDeadLetter(
                id=int(letter),
                handle=int(handle),
                lane=lane.decode(),
                enqueued_at=_HEADER.unpack_from(value)[1],
                died_at=int(at) / 1e6,
                failure=_to_failure(failure),
                body=_body(value),
            )
            for letter, handle, lane, at, failure, value in self._select(_READ, "find", query, limit)
        ]

    def requeue(self, query: DeadLetterQuery) -> int:
        """Queue the selected dead letters again."""
        number: int = self._select(_ADD, "requeue", query)
        return number

    def delete(self, query: DeadLetterQuery, *, counter: str) -> int:
        """Delete the selected dead letters, and count them as dropped."""
        number: int = self._select(_WRITE, "delete", query, counter)
        return number

    def check(self) -> Mapping[str, Sequence[Claim]]:
        """Return nothing: each answer tells whether the store was emptied, and then there is nothing in it."""
        return {}

    def recover(self, in_flight: Failure | None, poison: Failure) -> tuple[int, int]:
        """Renew this process's lease, and recover the claims of processes whose lease is over."""
        failures = in_flight is not None and _failure(in_flight), _failure(poison)
        unknown, poisoned = self._own("recover", *failures, self._options.dead_letters)[1]
        return unknown, poisoned

    def maintain(self) -> None:
        """Delete old dead letters. The server deletes old keys."""
        now = self._clock.monotonic()
        if now >= self._next_prune:
            self._next_prune = now + _PRUNE_EVERY
            self._run(_WRITE, "prune", _microseconds(self._options.dead_letters_max_age))

    def close(self) -> None:
        """Release this process's claims that are not in flight, and close the connections."""
        if self._owns and not self._closed:
            with contextlib.suppress(StoreError):  # its lease will be over
                self._run(_WRITE, "release_owner", self.owner)
        self._closed = True
        self.connections.close()

    def _own(self, method: str, *arguments: Any, timeout: float | None = None) -> tuple[int, Any]:
        """Run a method that makes this process an owner, or renews its lease."""
        if self._closed:
            raise StoreUnavailable("the spool is closed")
        self._owns = True
        return self._run(_WRITE, method, self.owner, _microseconds(self.lease), *arguments, timeout=timeout)

    def _select(self, script: Script, method: str, query: DeadLetterQuery, *arguments: Any) -> Any:
        """Run a method on dead letters."""
        condition = {
            "ids": _ids(query.ids),
            "lane": query.lane,
            "reason": query.reason,
            "died_before": None if query.died_before is None else query.died_before * 1e6,
            "died_after": None if query.died_after is None else query.died_after * 1e6,
            "contains": None if query.contains is None else True,
        }
        return self._run(script, method, condition, *arguments, values=[query.contains or b""])[1]

    def _claims(self, epoch: int, result: Any) -> Claimed:
        index, values, more = result
        listed, start = iter(_decode(index)), 0
        claims: list[Claim] = []
        for handle, length in zip(listed, listed, strict=True):
            value = values[start : start + length]
            start += length
            claims.append(_claim(handle, value))
        return Claimed(epoch, claims, bool(more))

    def _run(
        self,
        script: Script,
        method: str,
        *arguments: Any,
        values: Sequence[bytes] = (),
        timeout: float | None = None,
        replicated: bool = False,
    ) -> tuple[int, Any]:
        """Run a method, and return the epoch in which it was run, and its result."""
        before = self.epoch
        limit = self._timeout if timeout is None else timeout
        reply = self.connections.run(
            script, self._meta, method, _encode(arguments), *values, timeout=limit, replicated=replicated
        )
        epoch = int(reply[0])
        if epoch not in (0, self.epoch):
            if self.epoch != before:
                raise AnswerLost("it was emptied in the meantime")
            self.epoch = epoch
            if before:
                self._logger.log(
                    logging.ERROR,
                    f"spool {self.name}: the store was emptied (by FLUSHALL, a restart without persistence, or the "
                    "server's eviction): what waited in it is lost, and its ledger starts again; see "
                    "`sessionsight check`",
                    key="emptied",
                )
        return epoch, reply[1]

    def _on_missing_replicas(self, found: int) -> None:
        self._logger.log(
            logging.WARNING,
            f"spool {self.name}: {found} of {self.wait_replicas} replicas had a write in time (wait_replicas); it is "
            "stored, and lost if the primary is lost before they have it",
            key="replicas",
        )


def _microseconds(seconds: float) -> int:
    return int(seconds * 1e6)


def _ids(handles: Sequence[int]) -> list[str]:
    """Return handles as text: Lua would round them."""
    return [*map(str, handles)]


def _counter(pairs: Sequence[Any]) -> Counter[str]:
    listed = iter(pairs)
    return Counter({counter.decode(): int(number) for counter, number in zip(listed, listed, strict=True)})


def _to_value(record: NewRecord) -> bytes:
    key = (record.dedupe_key or "").encode()
    return _HEADER.pack(record.size, record.enqueued_at, record.priority, len(key)) + key + record.body


def _body(value: bytes) -> bytes:
    return value[_HEADER.size + _HEADER.unpack_from(value)[3] :]


def _claim(handle: str, value: bytes) -> Claim:
    return Claim(int(handle), _HEADER.unpack_from(value)[1], _body(value))


def _failure(failure: Failure) -> str:
    return msgspec.json.encode([getattr(failure, name) for name in Failure.__struct_fields__]).decode()


def _to_failure(encoded: bytes) -> Failure:
    return Failure(**dict(zip(Failure.__struct_fields__, msgspec.json.decode(encoded), strict=True)))
