"""A spool over a SQLite store beyond the contract: other processes, restarts and bounds."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sessionsight.capture.records import DropReason
from sessionsight.delivery.stores.base import LaneBatch
from sessionsight.delivery.stores.sqlite import maintenance
from sessionsight.test_mode import TestMode
from tests.core.delivery.kit import event, goal, labels
from tests.core.delivery.spools import (
    LANE,
    SqliteSpool,
    abandon,
    claim,
    counts,
    enter,
    files,
    letter,
    query,
    sound,
    sqlite_spool,
)
from tests.support.server import PATIENCE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


def end(spool: SqliteSpool, *lanes: str) -> None:
    for lane in lanes or (LANE,):
        spool.lane(lane).close()
    spool.close()


def test_the_next_process_finds_the_queued_records(path: Path) -> None:
    first = sqlite_spool(path)
    enter(first, [event("a"), goal("g")], [DropReason.CONSENT])
    claim(first.lane(LANE), 1)
    assert first.lane(LANE).close() == 0
    first.close()

    second = sqlite_spool(path)

    assert counts(second.lane(LANE)) == {"captured": 3, "pending": 2, "consent": 1}
    assert labels(claim(second.lane(LANE), 2)) == ["g", "a"]
    end(second)


def test_a_record_of_several_lanes_is_stored_once(path: Path) -> None:
    spool = sqlite_spool(path, "a", "b", "c")
    entry = event("seen", size=1000)
    spool.enqueue([LaneBatch(lane, [entry]) for lane in "abc"])
    assert query(path, "SELECT count(*), max(refcount) FROM records") == [(1, 3)]

    for lane in "abc":
        spool.lane(lane).ack(claim(spool.lane(lane), 1))

    assert query(path, "SELECT count(*) FROM records") == [(0,)]
    end(spool, *"abc")


def test_only_their_owner_can_read_the_files(path: Path) -> None:
    """Except the lock, which is empty."""
    spool = sqlite_spool(path)
    enter(spool, [event("a")])
    claim(spool.lane(LANE), 1)

    sides = f"{path.name}-shm", f"{path.name}-wal"
    assert files(path) == [path.name, f"{path.name}-owner-{spool.store.owner_id:x}", *sides]
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert [modes[name] for name in (path.name, *sides)] == [0o600] * 3
    end(spool)
    assert files(path) == [path.name]


# --- other processes ----------------------------------------------------------------------------------------


def test_two_processes_never_claim_the_same_record(path: Path) -> None:
    one, other = sqlite_spool(path), sqlite_spool(path)
    enter(one, [event(name) for name in "abcdef"])

    claimed = claim(one.lane(LANE), 2) + claim(other.lane(LANE), 4)
    other.lane(LANE).ack(claim(other.lane(LANE), 4))

    assert len(set(labels(claimed))) == len(claimed)
    assert sound(path)
    end(one)
    end(other)


def test_claims_of_a_dead_process_are_recovered(path: Path) -> None:
    dead, alive = sqlite_spool(path), sqlite_spool(path)
    enter(dead, [goal("g"), event("a")])
    claim(dead.lane(LANE), 2)
    alive.lane(LANE).maintain()
    assert list(alive.lane(LANE).claim(10, 10**9)) == []

    abandon(dead)
    alive.maintain()

    assert labels(claim(alive.lane(LANE), 2)) == ["g", "a"]
    assert query(path, "SELECT count(*) FROM owners") == [(1,)]
    end(alive)
    assert files(path) == [path.name]


def test_records_in_flight_of_a_dead_process_become_dead_letters(path: Path) -> None:
    dead, alive = sqlite_spool(path), sqlite_spool(path)
    enter(dead, [goal("sent"), goal("came back"), goal("claimed")])
    sent, came_back, _ = claim(dead.lane(LANE), 3)
    dead.lane(LANE).mark_in_flight([sent, came_back], durably=True)
    dead.lane(LANE).clear_in_flight([came_back], durably=True)

    abandon(dead)
    alive.maintain()

    [letter] = alive.lane(LANE).dead_letters()
    assert (letter.entry.record.label, letter.reason) == ("sent", "unknown")
    assert "ended before it received the vendor's reply" in letter.message
    assert labels(claim(alive.lane(LANE), 3)) == ["came back", "claimed"]
    assert counts(alive.lane(LANE)) == {"captured": 3, "pending": 2, "dead": 1}
    assert sound(path)
    end(alive)


def test_records_in_flight_of_a_dead_process_are_sent_again_with_retry(path: Path) -> None:
    dead, alive = sqlite_spool(path), sqlite_spool(path, goals_on_unknown="retry")
    enter(dead, [goal("g")])
    dead.lane(LANE).mark_in_flight(claim(dead.lane(LANE), 1), durably=True)

    abandon(dead)
    alive.maintain()

    assert labels(claim(alive.lane(LANE), 1)) == ["g"]
    end(alive)


def test_records_in_flight_when_a_process_closes_become_dead_letters(path: Path) -> None:
    first, second = sqlite_spool(path), sqlite_spool(path)
    enter(first, [goal("sent"), goal("claimed")])
    sent, _ = claim(first.lane(LANE), 2)
    first.lane(LANE).mark_in_flight([sent], durably=True)
    end(first)

    second.maintain()

    assert labels(second.lane(LANE).dead_letters()) == ["sent"]
    assert labels(claim(second.lane(LANE), 2)) == ["claimed"]
    end(second)


def test_a_stopped_process_keeps_its_claims_if_the_clock_jumps(path: Path) -> None:
    stopped, alive = sqlite_spool(path), sqlite_spool(path)
    enter(stopped, [event("a")])
    [claimed] = claim(stopped.lane(LANE), 1)

    for jump in (10**9, -2 * 10**9):
        alive.clock.advance(jump)
        alive.maintain()
        assert list(alive.lane(LANE).claim(1, 10**9)) == []

    stopped.lane(LANE).ack([claimed])
    assert counts(alive.lane(LANE)) == {"captured": 1, "delivered": 1}
    end(stopped)
    end(alive)


def test_a_process_finds_records_that_another_has_enqueued(path: Path) -> None:
    one, other = sqlite_spool(path), sqlite_spool(path)
    other.lane(LANE).maintain()
    assert other.lane(LANE).depth()[2] is None
    enter(one, [event("a")])

    other.maintain_soon()
    other.lane(LANE).maintain()

    assert other.lane(LANE).depth()[2] is not None
    assert labels(claim(other.lane(LANE), 1)) == ["a"]
    end(one)
    end(other)


def test_join_does_not_wait_for_claims_of_other_processes(path: Path) -> None:
    one, other = sqlite_spool(path), sqlite_spool(path)
    enter(one, [event("a")])
    assert not one.lane(LANE).join(time.monotonic() - 1)

    claim(other.lane(LANE), 1)

    assert one.lane(LANE).join(time.monotonic() + PATIENCE)
    end(one)
    end(other)


def test_keys_are_shared_by_processes_and_survive_restarts(path: Path) -> None:
    one = sqlite_spool(path)
    enter(one, [event("paid", key="order:1")])
    end(one)
    other = sqlite_spool(path)

    enter(other, [event("paid", key="order:1")])

    assert counts(other.lane(LANE)) == {"captured": 2, "pending": 1, "duplicate": 1}
    end(other)


def test_a_key_of_a_clock_that_was_ahead_expires(path: Path) -> None:
    spool = sqlite_spool(path, dedupe_window=60)
    enter(spool, [event("paid", key="k", since=10_000.0), event("paid", key="k", since=1_000.0)])

    assert counts(spool.lane(LANE)) == {"captured": 2, "pending": 2}
    end(spool)


# --- bounds ---------------------------------------------------------------------------------------


def test_a_full_spool_evicts_the_oldest_events_before_goals(path: Path) -> None:
    spool = sqlite_spool(path, spool_bytes=256 * 1024)
    enter(spool, [goal("g")])
    for number in range(400):
        enter(spool, [event(str(number), size=2000)])

    queue = spool.lane(LANE)
    numbers = counts(queue)
    assert numbers["captured"] == 401
    assert numbers["queue_full"] == 401 - numbers["pending"]
    assert queue.pop_evicted_count() == numbers["queue_full"]
    left = labels(claim(queue, 401))
    assert left == ["g", *map(str, range(401 - len(left), 400))]
    assert path.stat().st_size < 512 * 1024
    assert sound(path)
    end(spool)


def test_a_full_spool_of_goals_evicts_the_oldest(path: Path) -> None:
    spool = sqlite_spool(path, spool_bytes=128 * 1024)
    for number in range(300):
        enter(spool, [goal(f"{number}-{'x' * 1000}", key=f"{number}")])

    numbers = counts(spool.lane(LANE))
    assert numbers["queue_full"] > 0
    assert labels(claim(spool.lane(LANE), 300))[-1].startswith("299-")
    enter(spool, [goal(f"0-{'x' * 1000}", key="0")])
    assert "duplicate" not in counts(spool.lane(LANE))  # the key of an evicted record is forgotten
    end(spool)


def test_old_keys_are_deleted_in_batches(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request waits for one batch at most."""
    monkeypatch.setattr(maintenance, "_MAX_KEYS", 2)
    spool = sqlite_spool(path, dedupe_window=100)
    enter(spool, [event(key=str(number)) for number in range(5)])
    with spool.store.file.write(1) as it:
        it.execute("UPDATE keys SET seen_at = seen_at - 101")
    write, left = spool.store.file.write, []

    @contextmanager
    def watched(timeout: float) -> Iterator[Any]:
        with write(timeout) as cursor:
            yield cursor
        left.extend(query(path, "SELECT count(*) FROM keys"))

    monkeypatch.setattr(spool.store.file, "write", watched)
    spool.store.maintain()

    assert left[:3] == [(3,), (1,), (0,)]
    end(spool)


def test_old_dead_letters_and_keys_are_deleted(path: Path) -> None:
    spool = sqlite_spool(path, dead_letters_max_age=100, dedupe_window=100)
    enter(spool, [event("a", key="k"), event("b")])
    spool.lane(LANE).dead_letter([letter(entry) for entry in claim(spool.lane(LANE), 2)])
    with spool.store.file.write(1) as it:
        it.execute("UPDATE sessionsight_dead_letter SET died_at = died_at - 101 WHERE id = 1")
        it.execute("UPDATE keys SET seen_at = seen_at - 101")

    spool.maintain()

    assert counts(spool.lane(LANE)) == {"captured": 2, "dead": 1, "dead_letters_expired": 1}
    assert query(path, "SELECT count(*) FROM keys") == [(0,)]
    assert sound(path)
    end(spool)


def test_the_log_is_checkpointed_by_maintenance(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "_CHECKPOINT_BYTES", 64 * 1024)
    monkeypatch.setattr(maintenance, "_RESTART_BYTES", 128 * 1024)
    spool = sqlite_spool(path)
    log = Path(f"{path}-wal")
    for _ in range(200):
        enter(spool, [event("a", size=3000)])
    grown = log.stat().st_size
    assert path.stat().st_size < grown

    spool.maintain()

    assert path.stat().st_size > 200 * 3000
    enter(spool, [event("b")])
    assert log.stat().st_size <= grown  # overwritten from its start
    assert counts(spool.lane(LANE)) == {"captured": 201, "pending": 201}
    end(spool)


def test_the_log_is_checkpointed_before_it_exceeds_the_free_space(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint needs space, so without this a log that fills the disk would block all writes."""
    spool = sqlite_spool(path)
    log = Path(f"{path}-wal")
    for _ in range(20):
        enter(spool, [event("a", size=3000)])
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=log.stat().st_size + 1, f_frsize=1))
    spool.maintain()
    assert path.stat().st_size < 20 * 3000
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=log.stat().st_size, f_frsize=1))

    spool.store.maintain()

    assert path.stat().st_size > 20 * 3000
    end(spool)


def test_a_record_captured_after_closing_is_stored(path: Path) -> None:
    spool = sqlite_spool(path)
    end(spool)

    enter(spool, [event("late")])

    assert query(path, "SELECT count(*) FROM queue") == [(1,)]
    assert files(path) == [path.name]


def test_a_closed_spool_that_is_read_or_written_is_closed_again(path: Path) -> None:
    spool = sqlite_spool(path)
    enter(spool, [event("a")])
    end(spool)

    assert counts(spool.lane(LANE))["pending"] == 1
    assert spool.store.file._connection is None
    with spool.store.file.write(1.0):
        pass
    assert spool.store.file._connection is None
    assert files(path) == [path.name]


def test_a_file_that_is_closed_within_an_operation_is_closed_at_its_end(path: Path) -> None:
    """A finalizer may run in the middle of it."""
    spool = sqlite_spool(path)

    with spool.store.file.write(1.0) as cursor:
        spool.close()
        cursor.execute("SELECT 1")

    assert spool.store.file._connection is None
    assert files(path) == [path.name]


def test_maintenance_during_closing_leaves_nothing_open(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = sqlite_spool(path)
    enter(spool, [event("a")])
    monkeypatch.setattr(maintenance, "checkpoint_if_needed", lambda file: spool.close())

    spool.maintain()

    assert spool.store.file._connection is None
    assert files(path) == [path.name]
    assert path.name in files(path)
    assert not [name for name in files(path) if name.endswith(("-wal", "-shm"))]


def test_a_record_that_another_thread_claims_first_meanwhile_is_still_counted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = sqlite_spool(path)
    enter(spool, [event("a")])
    read = spool.store.file.read

    def claim_first(timeout: float) -> Any:
        """The dispatcher thread makes the process's first claim between a call of the store and its step."""
        monkeypatch.undo()
        assert labels(claim(spool.lane(LANE), 1)) == ["a"]
        return read(timeout)

    monkeypatch.setattr(spool.store.file, "read", claim_first)

    assert spool.store.unresolved(LANE) is not None
    end(spool)


def test_records_are_not_claimed_without_a_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = fcntl.flock

    def refuse(descriptor: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX:
            raise OSError("no locks available")
        lock(descriptor, operation)

    spool = sqlite_spool(path)
    monkeypatch.setattr("fcntl.flock", refuse)
    spool.maintain()
    enter(spool, [event("a")])

    assert list(spool.lane(LANE).claim(1, 1)) == []  # its owner could not be tested
    monkeypatch.undo()
    assert labels(claim(spool.lane(LANE), 1)) == ["a"]
    end(spool)


def test_two_clients_of_one_process_that_share_a_file_are_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = sqlite_spool(path)
    end(first)
    second = sqlite_spool(path)
    assert caplog.text == ""  # the first one is closed

    third = sqlite_spool(path)

    assert "two clients of this process share it" in caplog.text
    end(second)
    end(third)


def test_clients_that_deliver_nothing_may_share_a_file(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessionsight.delivery.queue.durable_spool.test_mode", TestMode(suppressed=True))
    spools = [sqlite_spool(path), sqlite_spool(path)]
    assert caplog.text == ""
    for spool in spools:
        end(spool)


def test_a_record_that_cannot_be_decoded_is_not_erased(path: Path) -> None:
    spool = sqlite_spool(path)
    enter(spool, [event("a"), event("b")])  # of user_1
    query(path, "UPDATE records SET body = CAST(body || 'x' AS BLOB) WHERE id = (SELECT min(id) FROM records)")

    assert spool.erase(LANE, "user_1") == 1

    assert counts(spool.lane(LANE)) == {"captured": 2, "erased": 1, "pending": 1}
    assert sound(path)
    end(spool)


def test_after_the_last_wait_of_a_process_only_records_in_memory_are_claimed(path: Path) -> None:
    spool = sqlite_spool(path)
    queue = spool.lane(LANE)
    queue.begin_shutdown()
    assert queue.join(time.monotonic() + 20)
    enter(spool, [event("later")])
    assert queue.depth()[0] == 0
    assert queue.claim(10, 10**6) == []
    assert counts(queue) == {"captured": 1, "pending": 1}
    queue.close()
    spool.close()


def test_a_closed_lane_claims_and_writes_nothing(path: Path) -> None:
    spool = sqlite_spool(path)
    queue = spool.lane(LANE)
    enter(spool, [event("a"), event("b")])
    sent = claim(queue, 1)
    queue.close()
    assert queue.claim(10, 10**6) == []
    queue.ack(sent)
    assert query(path, "SELECT count(*) FROM queue") == [(2,)]
    spool.close()


def test_many_pending_records_are_not_counted_one_by_one(path: Path) -> None:
    spool = sqlite_spool(path)
    queue = spool.lane(LANE)
    enter(spool, [event(name) for name in "abcdefgh"])
    one, two, _ = claim(queue, 3)
    queue.ack([one])
    queue.dead_letter([letter(two)])
    expected = {"captured": 8, "delivered": 1, "dead": 1, "pending": 6}
    for most in (2, 6, 7):
        assert spool.store._counts(LANE, most=most) == expected
    queue.close()
    spool.close()
