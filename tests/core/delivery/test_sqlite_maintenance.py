"""The size of a store's file is bounded, whatever is in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sessionsight.delivery.stores.sqlite.queries import evict
from tests.core.delivery.kit import event
from tests.core.delivery.spools import LANE, SqliteSpool, claim, counts, enter, query, sqlite_spool

SMALL = 512 * 1024

Make = Callable[..., SqliteSpool]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@pytest.fixture
def make(path: Path) -> Iterator[Make]:
    made: list[SqliteSpool] = []

    def make(*lanes: str, **options: Any) -> SqliteSpool:
        made.append(sqlite_spool(path, *lanes, **options))
        return made[-1]

    yield make
    for spool in made:
        spool.close()


def test_records_that_are_being_sent_are_never_evicted(make: Make) -> None:
    spool = make(spool_bytes=SMALL)
    queue = spool.lane(LANE)
    enter(spool, [event(f"{number}", size=40_000) for number in range(10)])
    claimed = claim(queue, 10)

    enter(spool, [event("too much", size=SMALL)])
    evicted = counts(queue)
    enter(spool, [event("more", size=SMALL)])

    assert evicted == {"captured": 11, "pending": 10, "queue_full": 1}
    assert counts(queue) == {"captured": 12, "pending": 10, "queue_full": 2}
    queue.ack(claimed)
    assert counts(queue) == {"captured": 12, "delivered": 10, "queue_full": 2}
    queue.close()


def test_nothing_is_evicted_if_only_dead_letters_and_claims_take_the_space(make: Make, path: Path) -> None:
    large = make()
    enter(large, [event(f"{number}", size=40_000) for number in range(30)])
    claimed = claim(large.lane(LANE), 30)
    small = make(spool_bytes=SMALL)

    with small.store.file.write(20) as cursor:
        evict(cursor, SMALL)

    assert query(path, "SELECT count(*) FROM queue") == [(30,)]
    large.lane(LANE).ack(claimed)
    assert counts(large.lane(LANE)) == {"captured": 30, "delivered": 30}


def test_one_transaction_evicts_a_thousand_records_at_most_and_the_next_one_goes_on(make: Make, path: Path) -> None:
    enter(make(), [event(f"{number}", size=1500) for number in range(1500)])
    small = make(spool_bytes=SMALL)

    enter(small, [event("a")])
    assert query(path, "SELECT count(*) FROM queue") == [(501,)]
    enter(small, [event("b")])

    assert query(path, "SELECT count(*) FROM queue") < [(400,)]
    assert counts(small.lane(LANE))["captured"] == 1502


def test_a_record_that_cannot_be_read_is_evicted_too(make: Make, path: Path) -> None:
    enter(make(), [event(f"{number}", size=40_000, key=f"key {number}") for number in range(30)])
    with closing(sqlite3.connect(path)) as damage:
        damage.execute("UPDATE records SET body = x'ff' WHERE id = (SELECT min(id) FROM records)")
        damage.commit()
    small = make(spool_bytes=SMALL)

    enter(small, [event("new", size=40_000)])

    assert query(path, "SELECT count(*) FROM queue") == [(0,)]
    assert query(path, "SELECT count(*) FROM keys") == [(0,)]  # they may be captured again


def test_records_of_lanes_that_only_another_process_has_are_evicted_too(make: Make, path: Path) -> None:
    enter(make("other"), [event(f"{number}", size=40_000) for number in range(30)], lane="other")
    small = make(spool_bytes=SMALL)

    enter(small, [event("new", size=40_000)])

    assert query(path, "SELECT count(*) FROM queue WHERE lane = 'other'") < [(30,)]
    assert small.lane(LANE).pop_evicted_count() == 1  # its own
