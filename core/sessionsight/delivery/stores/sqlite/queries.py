"""The verbs of a spool's tables: enter, claim, mark, settle, bury, release. Each is a step within a transaction."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from sessionsight.capture.records import DropReason, Goal, QueuedRecord
from sessionsight.delivery.queue.base import DeadLetter, LaneBatch
from sessionsight.delivery.queue.codec import decode_entry, encode_entry
from sessionsight.delivery.queue.dedupe import dedupe_key
from sessionsight.delivery.queue.priority import size_of
from sessionsight.delivery.stores.sqlite.owner_lock import UNCLAIMED

__all__ = [
    "CAPTURED",
    "DELIVERED",
    "FALLBACK",
    "Counts",
    "Row",
    "bury",
    "claim",
    "clear_in_flight",
    "count",
    "drain_unclaimed",
    "ensure_lanes",
    "enter",
    "import_fallback_counts",
    "mark_in_flight",
    "remove",
    "trim_dead_letters",
]

CAPTURED = "captured"
DELIVERED = "delivered"
FALLBACK = "bypassed"
"""Waited in memory, because the file could not be written in time; no part of the ledger's sum."""

Counts = dict[tuple[int, str], int]
"""(Lane, what is counted) to number."""

Row = tuple[int, float, bytes]
"""Id, since when, and body of a queued record."""

_RANK_GOAL, _RANK_OTHER = 0, 1

_ONE = "lane = ? AND owner = ? AND rank = ? AND record = ?"


def ensure_lanes(connection: sqlite3.Connection, names: Iterable[str]) -> dict[str, int]:
    """The numbers of lanes, which the file gives to those that it does not know."""
    connection.executemany("INSERT OR IGNORE INTO lanes (name) VALUES (?)", [(name,) for name in names])
    return dict(connection.execute("SELECT name, lane FROM lanes"))


def count(connection: sqlite3.Connection, counts: Counts) -> None:
    """Add to the ledger."""
    connection.executemany(
        "INSERT INTO counts VALUES (?, ?, ?) ON CONFLICT (lane, what) DO UPDATE SET number = number + excluded.number",
        [(lane, what, number) for (lane, what), number in counts.items() if number],
    )


def enter(
    connection: sqlite3.Connection,
    shares: Sequence[LaneBatch],
    bodies: Mapping[int, bytes],
    *,
    lanes: Mapping[str, int],
    base: int,
    window: float,
    placed: dict[tuple[str, bytes], int] | None = None,
) -> dict[str, tuple[int, int]]:
    """Take records in for all lanes that want them, each record once.

    Args:
        connection: Within a transaction.
        shares: What each lane takes; those with the same record hold the same object.
        bodies: The `id()` of each record to its bytes.
        lanes: Names to numbers.
        base: Where the file's row ids begin.
        window: For how many seconds a key refuses the same key.
        placed: Gets the lane and the random bytes of each record that is taken in, and its row.

    Returns:
        How many more wait in each lane now, and their size.
    """
    (top,) = connection.execute("SELECT max(id) FROM records").fetchone()
    free = base if top is None else top + 1
    counts: Counts = {}
    entered: dict[str, tuple[int, int]] = {}
    # Of each record, by its `id()`: rank, row, size, since.
    facts: dict[int, tuple[int, int, int, float]] = {}
    users: dict[int, int] = {}
    queued: list[tuple[int, int, int, int, float]] = []
    for share in shares:
        lane = lanes[share.lane]
        number, bytes_ = entered.get(share.lane, (0, 0))
        for entry in share.entries:
            record = entry.record
            if record.key is not None and not _claim_key(connection, lane, entry, window):
                _add(counts, lane, DropReason.DUPLICATE.value)
                continue
            known = id(record)
            fact = facts.get(known)
            if fact is None:
                fact = facts[known] = (_rank(entry), free, size_of(entry), entry.enqueued_at)
                users[known] = 0
                free += 1
            users[known] += 1
            queued.append((lane, *fact))
            if placed is not None:
                placed[share.lane, record.random] = fact[1]
            number += 1
            bytes_ += fact[2]
        entered[share.lane] = number, bytes_
        _add(counts, lane, CAPTURED, len(share.entries) + len(share.dropped))
        for reason in share.dropped:
            _add(counts, lane, reason.value)
    connection.executemany(
        "INSERT INTO records VALUES (?, ?, ?)",
        [(row, users[known], bodies[known]) for known, (_, row, _, _) in facts.items()],
    )
    connection.executemany(
        f"INSERT INTO queue (lane, owner, rank, record, size, since) VALUES (?, {UNCLAIMED}, ?, ?, ?, ?)",  # noqa: S608
        queued,
    )
    count(connection, counts)
    return entered


def claim(
    connection: sqlite3.Connection, lane: int, owner: int, *, max_records: int, max_bytes: int
) -> tuple[list[Row], bool]:
    """Take the next rows of a lane for an owner, goals first.

    Returns:
        The rows, at least one if there is any, and whether more are waiting.
    """
    connection.execute("INSERT OR IGNORE INTO owners SELECT ?, ?, ?", (owner, os.getpid(), time.time()))
    found = connection.execute(
        "SELECT queue.rank, queue.record, queue.size, queue.since, records.body"
        " FROM queue JOIN records ON records.id = queue.record"
        " WHERE queue.lane = ? AND queue.owner = ? ORDER BY queue.rank, queue.record LIMIT ?",
        (lane, UNCLAIMED, max_records + 1),
    ).fetchall()
    total = taken = 0
    for _, _, size, _, _ in found[:max_records]:
        total += size
        if taken and total > max_bytes:
            break
        taken += 1
    if taken:
        rank, record, *_ = found[taken - 1]
        connection.execute(
            "UPDATE queue SET owner = ? WHERE lane = ? AND owner = ? AND (rank, record) <= (?, ?)",
            (owner, lane, UNCLAIMED, rank, record),
        )
    return [(record, since, body) for _, record, _, since, body in found[:taken]], len(found) > taken


def mark_in_flight(connection: sqlite3.Connection, lane: int, owner: int, entries: Sequence[QueuedRecord]) -> set[int]:
    """Set the in-flight flag of those entries that the owner still holds, and return their rows."""
    return {
        key[-1]
        for key in _keys(lane, owner, entries)
        if connection.execute(f"UPDATE queue SET sent = 1 WHERE {_ONE}", key).rowcount  # noqa: S608
    }


def clear_in_flight(connection: sqlite3.Connection, lane: int, owner: int, entries: Sequence[QueuedRecord]) -> None:
    """Clear the in-flight flag: the entries have certainly not arrived."""
    connection.executemany(f"UPDATE queue SET sent = 0 WHERE {_ONE}", _keys(lane, owner, entries))  # noqa: S608


def remove(connection: sqlite3.Connection, lane: int, owner: int, entries: Sequence[QueuedRecord], what: str) -> None:
    """These are done with, and counted as this: delivered, or the reason why they were dropped."""
    cursor = connection.executemany(f"DELETE FROM queue WHERE {_ONE}", _keys(lane, owner, entries))  # noqa: S608
    count(connection, {(lane, what): cursor.rowcount})


def bury(connection: sqlite3.Connection, lane: int, owner: int, letters: Sequence[DeadLetter], *, keep: int) -> None:
    """These become dead letters; the oldest ones beyond so many are dropped."""
    now = time.time()
    connection.executemany(
        "INSERT INTO dead (lane, rank, record, size, since, died,"  # noqa: S608
        " reason, message, status, attempts, first_attempt, last_attempt)"
        " SELECT lane, rank, record, size, since, ?, ?, ?, ?, ?, ?, ?"
        f" FROM queue WHERE {_ONE}",
        [(now, *_facts(letter), lane, owner, _rank(letter.entry), letter.entry.handle) for letter in letters],
    )
    entries = [letter.entry for letter in letters]
    connection.executemany(f"DELETE FROM queue WHERE {_ONE}", _keys(lane, owner, entries))  # noqa: S608
    trim_dead_letters(connection, lane, keep=keep)


def import_fallback_counts(
    connection: sqlite3.Connection,
    lane: int,
    owner: int,  # noqa: ARG001  as all of these take it
    *,
    delivered: int,
    dropped: Counter[DropReason],
    letters: Sequence[DeadLetter],
) -> int:
    """Count what was captured and settled without ever having been in the file, and keep its dead letters.

    Returns:
        How many of those are kept without their records, which cannot be written.
    """
    counts: Counts = {(lane, reason.value): number for reason, number in dropped.items()}
    counts[lane, DELIVERED] = delivered
    counts[lane, CAPTURED] = delivered + dropped.total() + len(letters)
    counts[lane, FALLBACK] = delivered + len(letters)
    count(connection, counts)
    unwritten = 0
    for given in letters:
        letter, body = _written(given)
        unwritten += not body
        entry = letter.entry
        row = connection.execute("INSERT INTO records (users, body) VALUES (0, ?)", (body,)).lastrowid
        connection.execute(
            "INSERT INTO dead (lane, rank, record, size, since, died, reason, message, status, attempts, first_attempt,"
            " last_attempt) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (lane, _rank(entry), row, size_of(entry), entry.enqueued_at, time.time(), *_facts(letter)),
        )
    return unwritten


def trim_dead_letters(connection: sqlite3.Connection, lane: int, *, keep: int) -> None:
    """Drop the oldest dead letters of a lane beyond so many."""
    (number,) = connection.execute("SELECT count(*) FROM dead WHERE lane = ?", (lane,)).fetchone()
    if number > keep:
        connection.execute(
            "DELETE FROM dead WHERE id IN (SELECT id FROM dead WHERE lane = ? ORDER BY id LIMIT ?)",
            (lane, number - keep),
        )
        count(connection, {(lane, DropReason.DEAD_LETTERS_FULL.value): number - keep})


def drain_unclaimed(connection: sqlite3.Connection, owner: int) -> dict[str, list[QueuedRecord]]:
    """Remove from a file that is given up what nobody has claimed, and what this owner has and did not send yet.

    Returns:
        What nobody had claimed, by lane, for another file to take it in. Its owner knows the rest.
    """
    found: dict[str, list[QueuedRecord]] = {}
    for row, name, since, body in connection.execute(
        "SELECT queue.record, lanes.name, queue.since, records.body FROM lanes"
        " JOIN queue ON queue.lane = lanes.lane AND queue.owner = ? JOIN records ON records.id = queue.record",
        (UNCLAIMED,),
    ).fetchall():
        with contextlib.suppress(msgspec.MsgspecError):
            found.setdefault(name, []).append(decode_entry(body, since=since, row=row))
    connection.execute("DELETE FROM queue WHERE owner = ? OR (owner = ? AND sent = 0)", (UNCLAIMED, owner))
    return found


def _add(counts: Counts, lane: int, what: str, number: int = 1) -> None:
    counts[lane, what] = counts.get((lane, what), 0) + number


def _claim_key(connection: sqlite3.Connection, lane: int, entry: QueuedRecord, window: float) -> bool:
    """Whether the key is new within the window, into either direction: the clock may have been set back."""
    return bool(
        connection.execute(
            "INSERT INTO keys VALUES (?, ?, ?) ON CONFLICT (lane, scope) DO UPDATE SET since = excluded.since"
            " WHERE abs(keys.since - excluded.since) >= ?",
            (lane, dedupe_key(entry), entry.enqueued_at, window),
        ).rowcount
    )


def _written(letter: DeadLetter) -> tuple[DeadLetter, bytes]:
    """A dead letter, and its record as bytes: none where that cannot be written, which the letter then says."""
    try:
        return letter, encode_entry(letter.entry)
    except Exception as error:  # a context that was made by hand may hold anything
        why = f"the record itself cannot be written ({type(error).__name__}: {error})"
        return replace(letter, message=f"{letter.message}; {why}"), b""


def _facts(letter: DeadLetter) -> tuple[object, ...]:
    return (
        letter.reason,
        letter.message,
        letter.status,
        letter.attempts,
        letter.first_attempt,
        letter.last_attempt,
    )


def _keys(lane: int, owner: int, entries: Sequence[QueuedRecord]) -> list[tuple[int, int, int, int]]:
    return [(lane, owner, _rank(entry), entry.handle) for entry in entries]


def _rank(entry: QueuedRecord) -> int:
    return _RANK_GOAL if type(entry.record) is Goal else _RANK_OTHER
