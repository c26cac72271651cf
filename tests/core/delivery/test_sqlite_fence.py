"""The fence before the wire: a lane sends only what is still its own, so that a goal is sent at most once."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sessionsight.client import Client
from sessionsight.delivery.stores.sqlite import connection as spool_file
from sessionsight.delivery.stores.sqlite import stats
from sessionsight.delivery.stores.sqlite.database_files import FILE_SUFFIXES
from sessionsight.delivery.transport import TimeLimits
from sessionsight.destinations import SessionSight
from sessionsight.destinations.base import VendorRequest, VendorResponse
from sessionsight.settings import Settings
from tests.core.delivery.kit import event, goal, labels, lane_threads
from tests.core.delivery.spools import LANE, SqliteSpool, abandon, claim, counts, enter, query, sound, sqlite_spool
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
    """A transport that remembers what it was given, and cannot be cut off."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, call: VendorRequest, limits: TimeLimits) -> VendorResponse:
        self.sent += labels(call.entries)
        return VendorResponse(status=200)

    def close(self) -> None: ...


def test_a_goal_whose_call_is_prepared_while_the_process_ends_is_sent_by_the_next_one_only(path: Path) -> None:
    """The key comes from a vault, and delivery is closed before the vault has answered."""
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
    first._engine.close()  # as when all is delivered that was there as the end began, and this came later
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


def test_nothing_is_sent_that_was_given_back_when_the_spool_was_closed(make: MakeSpool, path: Path) -> None:
    """Although its queue know nothing of that yet."""
    spool = make()
    enter(spool, [goal("g")])
    claimed = claim(spool.lane(LANE), 1)

    spool.close()

    assert not spool.lane(LANE).mark_in_flight(claimed, durably=True)
    assert in_flight(path) == 0
    assert labels(claim(make().lane(LANE), 1)) == ["g"]


def test_nothing_is_sent_that_a_peer_has_taken_over(make: MakeSpool) -> None:
    """As when a process looks dead, because somebody has deleted its lock."""
    lost, peer = make(), make()
    queue = lost.lane(LANE)
    enter(lost, [goal("g"), goal("h"), goal("i")])
    claimed = claim(queue, 3)
    assert queue.mark_in_flight(claimed[:1], durably=True) == claimed[:1]
    owner = lost.store.owner_id
    lost.store.file.write(lambda it: it.execute("UPDATE owners SET owner = 1"), timeout=1)
    lost.store.file.write(
        lambda it: it.execute("UPDATE queue SET claimed_by = 1 WHERE claimed_by = ?", (owner,)), timeout=1
    )
    peer.maintain()

    assert queue.mark_in_flight(claimed, durably=True) == []

    assert labels(claim(peer.lane(LANE), 2)) == ["h", "i"]
    assert [letter.reason for letter in peer.lane(LANE).dead_letters()] == ["unknown"]
    queue.ack(claimed)  # of what was on its way: the ledger has it as a dead letter
    assert counts(peer.lane(LANE)) == {"captured": 3, "pending": 2, "dead": 1}


def test_a_mark_is_not_cleared_by_what_had_to_wait_for_the_file(make: MakeSpool, path: Path) -> None:
    """That an earlier call has not arrived is written down before the mark of the next one, never after it."""
    spool = make()
    queue = spool.lane(LANE)
    enter(spool, [goal("g")])
    claimed = claim(queue, 1)
    assert queue.mark_in_flight(claimed, durably=True) == claimed
    queue._busy_timeout = 0.0
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        queue.clear_in_flight(claimed)
        assert queue.mark_in_flight(claimed, durably=True) is None
        other.execute("ROLLBACK")
    queue._busy_timeout = 1.0

    assert queue.mark_in_flight(claimed, durably=True) == claimed
    queue._next_maintenance = 0.0
    queue.maintain()

    assert in_flight(path) == 1


def test_a_goal_in_flight_that_came_after_the_end_began_is_waited_for(
    make: MakeSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no more is claimed: others deliver it, and at the end it would be cut off."""
    spool = make()
    queue = spool.lane(LANE)
    enter(spool, [goal("g"), goal("h")])
    claimed, prepared = claim(queue, 1), claim(queue, 1)
    assert queue.mark_in_flight(claimed, durably=True) == claimed
    monkeypatch.setattr(stats, "last_id", lambda connection: 0)  # all of this came later
    ended: list[bool] = []
    queue.begin_shutdown()
    ending = threading.Thread(target=lambda: ended.append(queue.join(time.monotonic() + PATIENCE)))

    ending.start()

    deadline = time.monotonic() + PATIENCE
    while queue.depth() != (0, 0, None):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert queue.claim(1, 1) == []
    assert queue.mark_in_flight(prepared, durably=True) == []
    assert ending.is_alive()
    queue.ack(claimed)
    ending.join(PATIENCE)
    assert ended == [True]
    queue.close()
    spool.close()
    assert labels(claim(make().lane(LANE), 1)) == ["h"]


# --- a file that is replaced ----------------------------------------------------------------------


def test_what_was_claimed_in_a_file_that_is_gone_is_entered_in_the_new_one(make: MakeSpool, path: Path) -> None:
    spool = make()
    queue = spool.lane(LANE)
    enter(spool, [goal("in flight"), goal("comes back"), goal("claimed"), event("e")])
    claimed = claim(queue, 3)
    assert queue.mark_in_flight(claimed[:2], durably=True) == claimed[:2]
    for side in FILE_SUFFIXES:
        Path(f"{path}{side}").rename(f"{path.parent}/moved.db{side}")

    queue._next_maintenance = 0.0
    queue.maintain()
    queue.clear_in_flight(claimed[1:2])

    assert queue.mark_in_flight(claimed, durably=True) == []
    assert sorted(labels(claim(queue, 3))) == ["claimed", "comes back", "e"]
    queue.ack(claimed[:1])
    assert counts(queue) == {"captured": 3, "pending": 3}
    # The moved file holds what is in flight, and nothing that is sent from the new one.
    assert query(path.parent / "moved.db", "SELECT in_flight FROM queue") == [(1,), (1,)]
    assert sound(path)


def test_what_was_claimed_in_a_damaged_file_is_entered_in_the_new_one(
    make: MakeSpool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_file, "_COOL_DOWN", 0.0)
    spool = make()
    queue = spool.lane(LANE)
    for number in range(100):
        enter(spool, [goal(str(number)), event("large", size=2000)])
    claimed = claim(queue, 2)
    spool.store.file.disconnect()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + os.urandom(len(whole) - 4096))

    sent = [queue.mark_in_flight(claimed, durably=True) for _ in range(2)]
    queue._next_maintenance = 0.0
    queue.maintain()

    assert not any(sent)
    assert len(list(path.parent.glob("spool.db.corrupt-*"))) == 1
    assert labels(claim(queue, 2)) == ["0", "1"]
    assert sound(path)


def test_a_process_that_dies_leaves_what_it_had_marked_as_dead_letters_only(make: MakeSpool, path: Path) -> None:
    spool, peer = make(), make()
    enter(spool, [goal("g"), goal("h")])
    claimed = claim(spool.lane(LANE), 2)
    assert spool.lane(LANE).mark_in_flight(claimed[:1], durably=True) == claimed[:1]

    abandon(spool)
    peer.maintain()

    assert labels(claim(peer.lane(LANE), 2)) == ["h"]
    assert labels(peer.lane(LANE).dead_letters()) == ["g"]
    assert sound(path)
