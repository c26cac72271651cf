"""The fence before each call: a lane sends only records that it still holds, so that a goal is sent at most once."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sessionsight.capture.records import DropReason
from sessionsight.client import Client
from sessionsight.delivery.stores.sqlite.database_files import FILE_SUFFIXES
from sessionsight.delivery.transport import TimeLimits
from sessionsight.destinations import SessionSight
from sessionsight.destinations.base import VendorRequest, VendorResponse
from sessionsight.settings import Settings
from tests.core.delivery.kit import event, goal, labels, lane_threads
from tests.core.delivery.spools import (
    LANE,
    SqliteSpool,
    abandon,
    claim,
    counts,
    enter,
    maintain,
    query,
    sound,
    sqlite_spool,
)
from tests.support.server import PATIENCE

MakeSpool = Callable[[], SqliteSpool]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@pytest.fixture
def make(path: Path) -> Iterator[MakeSpool]:
    spools: list[SqliteSpool] = []

    def make_spool() -> SqliteSpool:
        spools.append(sqlite_spool(path))
        return spools[-1]

    yield make_spool
    for spool in spools:
        spool.lane(LANE).close()
        spool.close()


def in_flight(path: Path) -> int:
    [(number,)] = query(path, "SELECT count(*) FROM queue WHERE in_flight = 1")
    return int(number)


class Wire:
    """A transport that records its calls and ignores being closed."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, call: VendorRequest, limits: TimeLimits) -> VendorResponse:
        self.sent += labels(call.entries)
        return VendorResponse(status=200)

    def close(self) -> None: ...


def test_a_goal_whose_call_is_prepared_during_shutdown_is_sent_by_the_next_process_only(path: Path) -> None:
    """The key comes from a callable, and delivery is closed before it returns."""
    asked, answered = threading.Event(), threading.Event()
    wire = Wire()

    def key() -> str:
        asked.set()
        assert answered.wait(PATIENCE)
        return "key"

    def client(key: str | Callable[[], str]) -> Client:
        destination = SessionSight(secret_api_key=key, property_id="shop")
        settings = Settings(destinations=(destination,), spool=f"sqlite:///{path}")
        return Client(settings, make_transport=lambda destination: wire)

    before = lane_threads()
    first = client(key)
    first.analytics.goals.increment("signups", session_id="s1")
    assert asked.wait(PATIENCE)
    first._engine.close()  # as at shutdown, when all earlier records are delivered
    answered.set()
    for thread in lane_threads() - before:
        thread.join(PATIENCE)
    assert lane_threads() <= before
    assert wire.sent == []

    second = client("key")
    second.analytics.goals.increment("orders", session_id="s1")
    assert second.flush(PATIENCE)
    assert second.shutdown(PATIENCE)

    assert sorted(wire.sent) == ["orders", "signups"]
    assert second.stats().lanes["sessionsight"].delivered == 2


def test_nothing_is_sent_once_the_queue_is_closed(make: MakeSpool, path: Path) -> None:
    spool = make()
    enter(spool, [goal("g"), event("a")])
    claimed = claim(spool.lane(LANE), 2)

    spool.lane(LANE).close()

    for mark in (True, False):
        assert spool.lane(LANE).mark_in_flight(claimed, durably=mark) == []
    assert in_flight(path) == 0
    spool.close()
    assert spool.lane(LANE).mark_in_flight(claimed, durably=True) == []
    assert labels(claim(make().lane(LANE), 2)) == ["g", "a"]


def test_records_released_by_closing_the_spool_are_not_sent(make: MakeSpool, path: Path) -> None:
    """The queue does not know of that yet."""
    spool = make()
    enter(spool, [goal("g")])
    claimed = claim(spool.lane(LANE), 1)

    spool.close()

    assert not spool.lane(LANE).mark_in_flight(claimed, durably=True)
    assert in_flight(path) == 0
    assert labels(claim(make().lane(LANE), 1)) == ["g"]


def test_records_recovered_by_another_process_are_not_sent(make: MakeSpool) -> None:
    """A process appears to have ended if its lock file was deleted."""
    lost, peer = make(), make()
    queue = lost.lane(LANE)
    enter(lost, [goal("g"), goal("h"), goal("i")])
    claimed = claim(queue, 3)
    assert queue.mark_in_flight(claimed[:1], durably=True) == claimed[:1]
    owner = lost.store.owner_id
    with lost.store.file.write(1) as it:
        it.execute("UPDATE owners SET owner = 1")
        it.execute("UPDATE queue SET claimed_by = 1 WHERE claimed_by = ?", (owner,))
    peer.maintain()

    assert queue.mark_in_flight(claimed, durably=True) == []

    assert labels(claim(peer.lane(LANE), 2)) == ["h", "i"]
    assert [letter.reason for letter in peer.lane(LANE).dead_letters()] == ["unknown"]
    queue.ack(claimed)  # of the record in flight, which is counted as a dead letter
    assert counts(peer.lane(LANE)) == {"captured": 3, "pending": 2, "dead": 1}


def test_a_pending_write_does_not_clear_a_later_in_flight_flag(make: MakeSpool, path: Path) -> None:
    """The outcome of an earlier call is written before the flag of the next one."""
    spool = make()
    queue = spool.lane(LANE)
    enter(spool, [goal("g")])
    claimed = claim(queue, 1)
    assert queue.mark_in_flight(claimed, durably=True) == claimed
    spool.clock.skips_pauses = True
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        queue.clear_in_flight(claimed, durably=True)
        assert queue.mark_in_flight(claimed, durably=True) is None
        other.execute("ROLLBACK")

    assert queue.mark_in_flight(claimed, durably=True) == claimed
    maintain(spool)

    assert in_flight(path) == 1


@pytest.mark.parametrize("arrives", [True, False])
@pytest.mark.parametrize("durably", [True, False])
def test_shutdown_waits_for_a_record_in_flight_that_was_captured_after_it_began(
    make: MakeSpool, monkeypatch: pytest.MonkeyPatch, durably: bool, arrives: bool
) -> None:
    """No more records are claimed then, because their calls would be cut off, and another process would repeat them."""
    spool = make()
    queue = spool.lane(LANE)
    enter(spool, [goal("g"), goal("h")])
    claimed, prepared = claim(queue, 1), claim(queue, 1)
    assert queue.mark_in_flight(claimed, durably=durably) == claimed
    monkeypatch.setattr(spool.store, "unresolved", lambda lane: None)  # all records were captured after shutdown began
    ended: list[bool] = []
    queue.begin_shutdown()
    ending = threading.Thread(target=lambda: ended.append(queue.join(time.monotonic() + PATIENCE)))

    ending.start()

    deadline = time.monotonic() + PATIENCE
    while not queue._draining:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert queue.claim(1, 1) == []
    assert queue.mark_in_flight(prepared, durably=durably) == []
    assert ending.is_alive()
    if arrives:
        queue.ack(claimed)
    else:
        queue.clear_in_flight(claimed, durably=durably)
    ending.join(PATIENCE)
    assert ended == [True]
    queue.close()
    spool.close()
    assert labels(claim(make().lane(LANE), 2)) == (["h"] if arrives else ["g", "h"])


def test_a_call_that_lacks_a_record_is_not_in_flight(make: MakeSpool) -> None:
    """It is prepared again without that record; shutdown must not wait for it."""
    spool = make()
    queue = spool.lane(LANE)
    enter(spool, [event("a"), event("b")])
    a, b = claim(queue, 2)
    queue.drop([b], DropReason.ERASED)

    assert queue.mark_in_flight([a, b], durably=False) == [a]
    assert queue._claims.in_flight == 0
    assert queue.mark_in_flight([a], durably=False) == [a]
    assert queue._claims.in_flight == 1


# --- a file that is replaced ----------------------------------------------------------------------


def test_claimed_records_of_a_deleted_file_are_enqueued_in_the_new_one(make: MakeSpool, path: Path) -> None:
    spool = make()
    queue = spool.lane(LANE)
    enter(spool, [goal("in flight"), goal("comes back"), goal("claimed"), event("e")])
    claimed = claim(queue, 3)
    assert queue.mark_in_flight(claimed[:2], durably=True) == claimed[:2]
    for side in FILE_SUFFIXES:
        Path(f"{path}{side}").rename(f"{path.parent}/moved.db{side}")

    maintain(spool)
    queue.clear_in_flight(claimed[1:2], durably=True)

    assert queue.mark_in_flight(claimed, durably=True) == []
    assert sorted(labels(claim(queue, 3))) == ["claimed", "comes back", "e"]
    queue.ack(claimed[:1])
    assert counts(queue) == {"captured": 3, "pending": 3}
    # The moved file keeps the records in flight, and none that is sent from the new one.
    assert query(path.parent / "moved.db", "SELECT in_flight FROM queue") == [(1,), (1,)]
    assert sound(path)


def test_claimed_records_of_a_damaged_file_are_enqueued_in_the_new_one(make: MakeSpool, path: Path) -> None:
    spool = make()
    queue = spool.lane(LANE)
    for number in range(100):
        enter(spool, [goal(str(number)), event("large", size=2000)])
    claimed = claim(queue, 2)
    spool.store.file.disconnect()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + os.urandom(len(whole) - 4096))

    sent = [queue.mark_in_flight(claimed, durably=True) for _ in range(2)]
    for side in FILE_SUFFIXES:
        Path(f"{path}{side}").unlink(missing_ok=True)
    maintain(spool)

    assert not any(sent)
    assert labels(claim(queue, 2)) == ["0", "1"]
    assert sound(path)


def test_only_records_in_flight_become_dead_letters_if_their_process_dies(make: MakeSpool, path: Path) -> None:
    spool, peer = make(), make()
    enter(spool, [goal("g"), goal("h")])
    claimed = claim(spool.lane(LANE), 2)
    assert spool.lane(LANE).mark_in_flight(claimed[:1], durably=True) == claimed[:1]

    abandon(spool)
    peer.maintain()

    assert labels(claim(peer.lane(LANE), 2)) == ["h"]
    assert labels(peer.lane(LANE).dead_letters()) == ["g"]
    assert sound(path)
