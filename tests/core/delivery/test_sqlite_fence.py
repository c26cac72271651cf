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
from sessionsight.delivery.stores.sqlite.store import SqliteSpool
from sessionsight.delivery.transport import TimeLimits
from sessionsight.destinations import SessionSight
from sessionsight.destinations.base import HttpCall, HttpReply
from sessionsight.settings import Settings
from tests.core.delivery.kit import event, goal, labels, lane_threads
from tests.core.delivery.spools import LANE, abandon, claim, counts, enter, query, sound, sqlite_spool
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
        spool.books(LANE).close()
        spool.close()


def in_flight(path: Path) -> int:
    [(number,)] = query(path, "SELECT count(*) FROM queue WHERE sent = 1")
    return int(number)


class Wire:
    """A transport that remembers what it was given, and cannot be cut off."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, call: HttpCall, limits: TimeLimits) -> HttpReply:
        self.sent += labels(call.entries)
        return HttpReply(status=200)

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

    assert wire.sent == ["signups", "orders"]
    assert second.stats().lanes["sessionsight"].delivered == 2


def test_nothing_is_sent_once_the_books_are_closed(make: MakeSpool, path: Path) -> None:
    spool = make()
    enter(spool, [goal("g"), event("a")])
    claimed = claim(spool.books(LANE), 2)

    spool.books(LANE).close()

    for mark in (True, False):
        assert spool.books(LANE).sending(claimed, mark=mark) == []
    assert in_flight(path) == 0
    spool.close()
    assert spool.books(LANE).sending(claimed, mark=True) == []
    assert labels(claim(make().books(LANE), 2)) == ["g", "a"]


def test_nothing_is_sent_that_was_given_back_when_the_spool_was_closed(make: MakeSpool, path: Path) -> None:
    """Although its books know nothing of that yet."""
    spool = make()
    enter(spool, [goal("g")])
    claimed = claim(spool.books(LANE), 1)

    spool.close()

    assert not spool.books(LANE).sending(claimed, mark=True)
    assert in_flight(path) == 0
    assert labels(claim(make().books(LANE), 1)) == ["g"]


def test_nothing_is_sent_that_a_peer_has_taken_over(make: MakeSpool) -> None:
    """As when a process looks dead, because somebody has deleted its lock."""
    lost, peer = make(), make()
    books = lost.books(LANE)
    enter(lost, [goal("g"), goal("h"), goal("i")])
    claimed = claim(books, 3)
    assert books.sending(claimed[:1], mark=True) == claimed[:1]
    owner = lost.owner_id
    lost.file.write(lambda it: it.execute("UPDATE owners SET owner = 1"), wait=1)
    lost.file.write(lambda it: it.execute("UPDATE queue SET owner = 1 WHERE owner = ?", (owner,)), wait=1)
    peer.tend(time.monotonic())

    assert books.sending(claimed, mark=True) == []

    assert labels(claim(peer.books(LANE), 2)) == ["h", "i"]
    assert [letter.reason for letter in peer.books(LANE).dead_letters()] == ["unknown"]
    books.delivered(claimed)  # of what was on its way: the ledger has it as a dead letter
    assert counts(peer.books(LANE)) == {"captured": 3, "pending": 2, "dead": 1}


def test_a_mark_is_not_cleared_by_what_had_to_wait_for_the_file(make: MakeSpool, path: Path) -> None:
    """That an earlier call has not arrived is written down before the mark of the next one, never after it."""
    spool = make()
    books = spool.books(LANE)
    enter(spool, [goal("g")])
    claimed = claim(books, 1)
    assert books.sending(claimed, mark=True) == claimed
    books._patience = 0.0
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        books.unsent(claimed)
        assert books.sending(claimed, mark=True) is None
        other.execute("ROLLBACK")
    books._patience = 1.0

    assert books.sending(claimed, mark=True) == claimed
    books._next_look = 0.0
    books.tend()

    assert in_flight(path) == 1


def test_a_goal_in_flight_that_came_after_the_end_began_is_waited_for(
    make: MakeSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no more is claimed: others deliver it, and at the end it would be cut off."""
    spool = make()
    books = spool.books(LANE)
    enter(spool, [goal("g"), goal("h")])
    claimed, prepared = claim(books, 1), claim(books, 1)
    assert books.sending(claimed, mark=True) == claimed
    monkeypatch.setattr(stats, "last", lambda connection: 0)  # all of this came later
    ended: list[bool] = []
    books.last_call()
    ending = threading.Thread(target=lambda: ended.append(books.wait_until_empty(time.monotonic() + PATIENCE)))

    ending.start()

    deadline = time.monotonic() + PATIENCE
    while books.waiting() != (0, 0, None):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert books.claim(1, 1) == []
    assert books.sending(prepared, mark=True) == []
    assert ending.is_alive()
    books.delivered(claimed)
    ending.join(PATIENCE)
    assert ended == [True]
    books.close()
    spool.close()
    assert labels(claim(make().books(LANE), 1)) == ["h"]


# --- a file that is replaced ----------------------------------------------------------------------


def test_what_was_claimed_in_a_file_that_is_gone_is_entered_in_the_new_one(make: MakeSpool, path: Path) -> None:
    spool = make()
    books = spool.books(LANE)
    enter(spool, [goal("in flight"), goal("comes back"), goal("claimed"), event("e")])
    claimed = claim(books, 3)
    assert books.sending(claimed[:2], mark=True) == claimed[:2]
    for side in FILE_SUFFIXES:
        Path(f"{path}{side}").rename(f"{path.parent}/moved.db{side}")

    books._next_look = 0.0
    books.tend()
    books.unsent(claimed[1:2])

    assert books.sending(claimed, mark=True) == []
    assert sorted(labels(claim(books, 3))) == ["claimed", "comes back", "e"]
    books.delivered(claimed[:1])
    assert counts(books) == {"captured": 3, "pending": 3}
    # The moved file holds what is in flight, and nothing that is sent from the new one.
    assert query(path.parent / "moved.db", "SELECT sent FROM queue") == [(1,), (1,)]
    assert sound(path)


def test_what_was_claimed_in_a_damaged_file_is_entered_in_the_new_one(
    make: MakeSpool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_file, "_REST", 0.0)
    spool = make()
    books = spool.books(LANE)
    for number in range(100):
        enter(spool, [goal(str(number)), event("large", size=2000)])
    claimed = claim(books, 2)
    spool.file.reopen()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + os.urandom(len(whole) - 4096))

    sent = [books.sending(claimed, mark=True) for _ in range(2)]
    books._next_look = 0.0
    books.tend()

    assert not any(sent)
    assert len(list(path.parent.glob("spool.db.corrupt-*"))) == 1
    assert labels(claim(books, 2)) == ["0", "1"]
    assert sound(path)


def test_a_process_that_dies_leaves_what_it_had_marked_as_dead_letters_only(make: MakeSpool, path: Path) -> None:
    spool, peer = make(), make()
    enter(spool, [goal("g"), goal("h")])
    claimed = claim(spool.books(LANE), 2)
    assert spool.books(LANE).sending(claimed[:1], mark=True) == claimed[:1]

    abandon(spool)
    peer.tend(time.monotonic())

    assert labels(claim(peer.books(LANE), 2)) == ["h"]
    assert labels(peer.books(LANE).dead_letters()) == ["g"]
    assert sound(path)
