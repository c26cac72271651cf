"""What a spool in a file promises beyond the contract: other processes, restarts, bounds."""

from __future__ import annotations

import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessionsight.capture.records import DropReason
from sessionsight.delivery.queue.base import Share
from sessionsight.delivery.stores.sqlite import maintenance
from sessionsight.delivery.stores.sqlite.store import SqliteSpool
from sessionsight.test_mode import TestMode
from tests.core.delivery.kit import event, goal, labels
from tests.core.delivery.spools import LANE, abandon, claim, counts, enter, files, letter, query, sound, sqlite_spool
from tests.support.server import PATIENCE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


def end(spool: SqliteSpool, *lanes: str) -> None:
    for lane in lanes or (LANE,):
        spool.books(lane).close()
    spool.close()


def test_what_waits_is_there_for_the_next_process(path: Path) -> None:
    first = sqlite_spool(path)
    enter(first, [event("a"), goal("g")], [DropReason.CONSENT])
    claim(first.books(LANE), 1)
    assert first.books(LANE).close() == 0
    first.close()

    second = sqlite_spool(path)

    assert counts(second.books(LANE)) == {"captured": 3, "pending": 2, "consent": 1}
    assert labels(claim(second.books(LANE), 2)) == ["g", "a"]
    end(second)


def test_a_record_is_stored_once_however_many_lanes_want_it(path: Path) -> None:
    spool = sqlite_spool(path, "a", "b", "c")
    entry = event("seen", size=1000)
    spool.enter([Share(lane, [entry]) for lane in "abc"])
    assert query(path, "SELECT count(*), max(users) FROM records") == [(1, 3)]

    for lane in "abc":
        spool.books(lane).delivered(claim(spool.books(lane), 1))

    assert query(path, "SELECT count(*) FROM records") == [(0,)]
    end(spool, *"abc")


def test_the_file_and_those_beside_it_are_for_their_owner_alone(path: Path) -> None:
    spool = sqlite_spool(path)
    enter(spool, [event("a")])
    claim(spool.books(LANE), 1)

    assert files(path) == [path.name, f"{path.name}-lock", f"{path.name}-shm", f"{path.name}-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    end(spool)
    assert files(path) == [path.name, f"{path.name}-lock"]


# --- peers ----------------------------------------------------------------------------------------


def test_two_processes_never_claim_the_same(path: Path) -> None:
    one, other = sqlite_spool(path), sqlite_spool(path)
    enter(one, [event(name) for name in "abcdef"])

    claimed = claim(one.books(LANE), 2) + claim(other.books(LANE), 4)
    other.books(LANE).delivered(claim(other.books(LANE), 4))

    assert len(set(labels(claimed))) == len(claimed)
    assert sound(path)
    end(one)
    end(other)


def test_what_a_dead_process_had_claimed_is_taken_over(path: Path) -> None:
    dead, alive = sqlite_spool(path), sqlite_spool(path)
    enter(dead, [goal("g"), event("a")])
    claim(dead.books(LANE), 2)
    alive.books(LANE).tend()
    assert list(alive.books(LANE).claim(10, 10**9)) == []

    abandon(dead)
    alive.tend(time.monotonic())

    assert labels(claim(alive.books(LANE), 2)) == ["g", "a"]
    assert query(path, "SELECT count(*) FROM owners") == [(1,)]
    end(alive)
    assert files(path) == [path.name, f"{path.name}-lock"]


def test_what_a_dead_process_may_have_delivered_is_parked(path: Path) -> None:
    dead, alive = sqlite_spool(path), sqlite_spool(path)
    enter(dead, [goal("sent"), goal("came back"), goal("claimed")])
    sent, came_back, _ = claim(dead.books(LANE), 3)
    dead.books(LANE).sending([sent, came_back], mark=True)
    dead.books(LANE).unsent([came_back])

    abandon(dead)
    alive.tend(time.monotonic())

    [letter] = alive.books(LANE).dead_letters()
    assert (letter.entry.record.label, letter.reason) == ("sent", "unknown")
    assert "ended before the vendor's reply" in letter.message
    assert labels(claim(alive.books(LANE), 3)) == ["came back", "claimed"]
    assert counts(alive.books(LANE)) == {"captured": 3, "pending": 2, "dead": 1}
    assert sound(path)
    end(alive)


def test_at_least_once_sends_again_what_a_dead_process_may_have_delivered(path: Path) -> None:
    dead, alive = sqlite_spool(path), sqlite_spool(path, goals_on_unknown="retry")
    enter(dead, [goal("g")])
    dead.books(LANE).sending(claim(dead.books(LANE), 1), mark=True)

    abandon(dead)
    alive.tend(time.monotonic())

    assert labels(claim(alive.books(LANE), 1)) == ["g"]
    end(alive)


def test_a_process_that_closes_leaves_what_is_on_the_wire_to_be_parked(path: Path) -> None:
    first, second = sqlite_spool(path), sqlite_spool(path)
    enter(first, [goal("sent"), goal("claimed")])
    sent, _ = claim(first.books(LANE), 2)
    first.books(LANE).sending([sent], mark=True)
    end(first)

    second.tend(time.monotonic())

    assert labels(second.books(LANE).dead_letters()) == ["sent"]
    assert labels(claim(second.books(LANE), 2)) == ["claimed"]
    end(second)


def test_a_stopped_process_keeps_what_it_has_claimed_whatever_the_clock_says(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped, alive = sqlite_spool(path), sqlite_spool(path)
    enter(stopped, [event("a")])
    [claimed] = claim(stopped.books(LANE), 1)
    now = time.time()

    for jump in (10**9, -(10**9)):
        monkeypatch.setattr(time, "time", lambda jump=jump: now + jump)
        alive.tend(time.monotonic())
        assert list(alive.books(LANE).claim(1, 10**9)) == []

    stopped.books(LANE).delivered([claimed])
    assert counts(alive.books(LANE)) == {"captured": 1, "delivered": 1}
    end(stopped)
    end(alive)


def test_a_peer_notices_what_another_has_entered(path: Path) -> None:
    one, other = sqlite_spool(path), sqlite_spool(path)
    other.books(LANE).tend()
    assert other.books(LANE).waiting()[2] is None
    enter(one, [event("a")])

    other.books(LANE)._next_look = 0.0
    other.books(LANE).tend()

    assert other.books(LANE).waiting()[2] is not None
    assert labels(claim(other.books(LANE), 1)) == ["a"]
    end(one)
    end(other)


def test_waiting_for_an_empty_spool_is_not_waiting_for_what_a_peer_has_claimed(path: Path) -> None:
    one, other = sqlite_spool(path), sqlite_spool(path)
    enter(one, [event("a")])
    assert not one.books(LANE).wait_until_empty(time.monotonic() - 1)

    claim(other.books(LANE), 1)

    assert one.books(LANE).wait_until_empty(time.monotonic() + PATIENCE)
    end(one)
    end(other)


def test_a_key_holds_across_processes_and_restarts(path: Path) -> None:
    one = sqlite_spool(path)
    enter(one, [event("paid", key="order:1")])
    end(one)
    other = sqlite_spool(path)

    enter(other, [event("paid", key="order:1")])

    assert counts(other.books(LANE)) == {"captured": 2, "pending": 1, "duplicate": 1}
    end(other)


def test_a_key_from_a_clock_that_ran_ahead_does_not_hold_for_ever(path: Path) -> None:
    spool = sqlite_spool(path, dedupe_window=60)
    enter(spool, [event("paid", key="k", since=10_000.0), event("paid", key="k", since=1_000.0)])

    assert counts(spool.books(LANE)) == {"captured": 2, "pending": 2}
    end(spool)


# --- bounds ---------------------------------------------------------------------------------------


def test_a_full_spool_loses_events_before_goals_the_oldest_first(path: Path) -> None:
    spool = sqlite_spool(path, spool_bytes=256 * 1024)
    enter(spool, [goal("g")])
    for number in range(400):
        enter(spool, [event(str(number), size=2000)])

    books = spool.books(LANE)
    numbers = counts(books)
    assert numbers["captured"] == 401
    assert numbers["queue_full"] == 401 - numbers["pending"]
    assert books.take_evicted() == numbers["queue_full"]
    left = labels(claim(books, 401))
    assert left == ["g", *map(str, range(401 - len(left), 400))]
    assert path.stat().st_size < 512 * 1024
    assert sound(path)
    end(spool)


def test_when_only_goals_are_left_the_oldest_goals_go(path: Path) -> None:
    spool = sqlite_spool(path, spool_bytes=128 * 1024)
    for number in range(300):
        enter(spool, [goal(f"{number}-{'x' * 1000}", key=f"{number}")])

    numbers = counts(spool.books(LANE))
    assert numbers["queue_full"] > 0
    assert labels(claim(spool.books(LANE), 300))[-1].startswith("299-")
    enter(spool, [goal(f"0-{'x' * 1000}", key="0")])
    assert "duplicate" not in counts(spool.books(LANE))  # a lost record's key is free again
    end(spool)


def test_keys_go_a_few_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that wants to write meanwhile waits for a few, and not for all of a day."""
    monkeypatch.setattr(maintenance, "_KEYS_AT_ONCE", 2)
    spool = sqlite_spool(path, dedupe_window=100)
    enter(spool, [event(key=str(number)) for number in range(5)])
    spool.file.write(lambda connection: connection.execute("UPDATE keys SET since = since - 101"), wait=1)
    write, left = spool.file.write, []

    def watched(work: Callable[[sqlite3.Connection], Any], **options: Any) -> Any:
        done = write(work, **options)
        left.extend(query(path, "SELECT count(*) FROM keys"))
        return done

    monkeypatch.setattr(spool.file, "write", watched)
    spool._upkeep.clean(time.monotonic())

    assert left[:3] == [(3,), (1,), (0,)]
    end(spool)


def test_old_dead_letters_and_keys_go(path: Path) -> None:
    spool = sqlite_spool(path, dead_letters_max_age=100, dedupe_window=100)
    enter(spool, [event("a", key="k"), event("b")])
    spool.books(LANE).died([letter(entry) for entry in claim(spool.books(LANE), 2)])
    spool.file.write(lambda connection: connection.execute("UPDATE dead SET died = died - 101 WHERE id = 1"), wait=1)
    spool.file.write(lambda connection: connection.execute("UPDATE keys SET since = since - 101"), wait=1)

    spool.tend(time.monotonic())

    assert counts(spool.books(LANE)) == {"captured": 2, "dead": 1, "dead_letters_expired": 1}
    assert query(path, "SELECT count(*) FROM keys") == [(0,)]
    assert sound(path)
    end(spool)


def test_the_log_is_written_back_without_keeping_requests_waiting(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "_CHECKPOINT_BYTES", 64 * 1024)
    monkeypatch.setattr(maintenance, "_RESTART_BYTES", 128 * 1024)
    spool = sqlite_spool(path)
    log = Path(f"{path}-wal")
    for _ in range(200):
        enter(spool, [event("a", size=3000)])
    grown = log.stat().st_size
    assert path.stat().st_size < grown

    spool.tend(time.monotonic())

    assert path.stat().st_size > 200 * 3000
    enter(spool, [event("b")])
    assert log.stat().st_size <= grown  # it has begun anew
    assert counts(spool.books(LANE)) == {"captured": 201, "pending": 201}
    end(spool)


def test_the_log_is_written_back_before_it_is_larger_than_the_room_on_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For that takes room, and once the log has taken the last of it nothing could be written any more."""
    spool = sqlite_spool(path)
    log = Path(f"{path}-wal")
    for _ in range(20):
        enter(spool, [event("a", size=3000)])
    monkeypatch.setattr(maintenance, "_room_beside", lambda path: log.stat().st_size + 1)
    spool.tend(time.monotonic())
    assert path.stat().st_size < 20 * 3000
    monkeypatch.setattr(maintenance, "_room_beside", lambda path: log.stat().st_size)

    now = time.monotonic()
    spool.tend(now)

    written = path.stat().st_mtime_ns
    assert path.stat().st_size > 20 * 3000
    for _ in range(20):
        enter(spool, [event("b", size=3000)])
    spool.tend(now)  # not again at once
    assert path.stat().st_mtime_ns == written
    end(spool)


def test_a_late_record_is_written_down_although_the_spool_is_closed(path: Path) -> None:
    spool = sqlite_spool(path)
    end(spool)

    enter(spool, [event("late")])

    assert query(path, "SELECT count(*) FROM queue") == [(1,)]
    assert files(path) == [path.name]


def test_a_folder_that_gives_no_lock_leaves_the_records_in_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError("no locks available")

    spool = sqlite_spool(path)
    monkeypatch.setattr("fcntl.lockf", refuse)
    spool.tend(time.monotonic())
    enter(spool, [event("a")])

    assert list(spool.books(LANE).claim(1, 1)) == []  # nobody could tell whose it is
    monkeypatch.undo()
    assert labels(claim(spool.books(LANE), 1)) == ["a"]
    end(spool)


def test_two_clients_of_one_process_should_not_share_a_file(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = sqlite_spool(path)
    end(first)
    second = sqlite_spool(path)
    assert caplog.text == ""  # one after the other

    third = sqlite_spool(path)

    assert "two clients of this process share it" in caplog.text
    end(second)
    end(third)


def test_clients_that_deliver_nothing_may_share_a_file(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessionsight.delivery.stores.sqlite.store.test_mode", TestMode(suppressed=True))
    spools = [sqlite_spool(path), sqlite_spool(path)]
    assert caplog.text == ""
    for spool in spools:
        end(spool)
