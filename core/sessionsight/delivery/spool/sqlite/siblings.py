"""Files beside the spool's own, made by processes that must not touch that one, and taken in once they are dead."""

from __future__ import annotations

import contextlib
import glob
import logging
import sqlite3
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sessionsight.delivery.spool.sqlite import adoption, ownership
from sessionsight.delivery.spool.sqlite.faults import Unusable
from sessionsight.delivery.spool.sqlite.file import SIDES, SpoolFile
from sessionsight.delivery.spool.sqlite.rows import count, name_lanes

if TYPE_CHECKING:
    from sessionsight.delivery.spool.sqlite.spool import SqliteSpool

__all__ = ["adopt"]

_PATIENCE = 1.0


class _Estate(NamedTuple):
    """All that a file holds, but for who owns what: they are dead."""

    base: int
    lanes: dict[str, int]
    records: list[tuple[int, bytes]]
    queue: list[tuple[Any, ...]]
    dead: list[tuple[Any, ...]]
    counts: list[tuple[int, str, int]]
    keys: list[tuple[int, str, float]]


def adopt(spool: SqliteSpool) -> None:
    """Move what dead processes have left in files of their own into the spool's, each file once.

    Raises:
        SpoolFault: A file cannot be used.
    """
    for path in _abandoned(spool.path):
        park = spool.options.goals_on_unknown == "park"
        file = SpoolFile(path, synchronous=spool.options.spool_synchronous, on_corrupt=spool.set_aside)
        try:
            file.write(partial(adoption.bequeath_all, park=park, keep=spool.options.dead_letters), wait=_PATIENCE)
            estate = file.read(_read, wait=_PATIENCE)
            spool.file.write(partial(_take_in, estate), wait=_PATIENCE)
        finally:
            file.reopen()
        for side in SIDES:
            with contextlib.suppress(FileNotFoundError):
                Path(path + side).unlink()
        for _, name in ownership.strays(path):
            ownership.remove_stray(name)
        spool.notices.tell(
            logging.INFO, f"spool {spool.path}: took in {len(estate.queue)} records that {path} had left behind"
        )


def _abandoned(path: str) -> list[str]:
    """Files named after the process id of their maker, which nobody owns any more."""
    return [
        name
        for name in glob.glob(f"{glob.escape(path)}.*")  # noqa: PTH207  the path is a path, not a pattern
        if name.removeprefix(f"{path}.").isdecimal()
        and not any(ownership.is_alive(name, owner) for owner in ownership.all_of(name))
    ]


def _read(connection: sqlite3.Connection) -> _Estate:
    row = connection.execute("SELECT value FROM facts WHERE name = 'base'").fetchone()
    if row is None:
        raise Unusable("a file beside the spool is none of ours")
    return _Estate(
        base=row[0],
        lanes=dict(connection.execute("SELECT name, lane FROM lanes")),
        records=connection.execute("SELECT id, body FROM records ORDER BY id").fetchall(),
        queue=connection.execute("SELECT lane, rank, record, size, since FROM queue").fetchall(),
        dead=connection.execute(
            "SELECT lane, record, rank, size, since, died, reason, message, status, attempts, first_attempt,"
            " last_attempt FROM dead ORDER BY id"
        ).fetchall(),
        counts=connection.execute("SELECT lane, what, number FROM counts").fetchall(),
        keys=connection.execute("SELECT lane, scope, since FROM keys").fetchall(),
    )


def _take_in(estate: _Estate, connection: sqlite3.Connection) -> None:
    """Enter all of it under new row ids, unless that has been done before."""
    adopted = connection.execute("INSERT OR IGNORE INTO adopted VALUES (?, ?)", (estate.base, time.time()))
    if not adopted.rowcount:
        return
    numbers = name_lanes(connection, estate.lanes)
    lanes = {lane: numbers[name] for name, lane in estate.lanes.items()}
    rows: dict[int, int] = {}
    waiting = Counter(record for _, _, record, _, _ in estate.queue)
    for row, body in estate.records:
        # A trigger adds the dead letters.
        cursor = connection.execute("INSERT INTO records (users, body) VALUES (?, ?)", (waiting[row], body))
        rows[row] = int(cursor.lastrowid or 0)
    connection.executemany(
        "INSERT INTO queue (lane, owner, rank, record, size, since) VALUES (?, 0, ?, ?, ?, ?)",
        [(lanes[lane], rank, rows[record], size, since) for lane, rank, record, size, since in estate.queue],
    )
    connection.executemany(
        "INSERT INTO dead (lane, record, rank, size, since, died, reason, message, status, attempts, first_attempt,"
        " last_attempt) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(lanes[lane], rows[record], *facts) for lane, record, *facts in estate.dead],
    )
    count(connection, Counter({(lanes[lane], what): number for lane, what, number in estate.counts}))
    connection.executemany(
        "INSERT OR IGNORE INTO keys VALUES (?, ?, ?)",
        [(lanes[lane], scope, since) for lane, scope, since in estate.keys],
    )
