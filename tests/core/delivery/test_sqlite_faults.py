"""Faults of a store's file: records are accepted, nothing is counted twice, and errors are logged."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from msgspec.structs import replace

from sessionsight.delivery.queue.claims import Claims
from sessionsight.delivery.stores.errors import StoreFull, StoreUnavailable
from sessionsight.delivery.stores.sqlite import schema
from sessionsight.delivery.stores.sqlite.connection import map_error
from sessionsight.delivery.stores.sqlite.database_files import FILE_SUFFIXES
from sessionsight.delivery.stores.sqlite.maintenance import checkpoint
from tests.core.delivery.kit import event, goal, labels
from tests.core.delivery.spools import (
    LANE,
    SqliteSpool,
    claim,
    counts,
    enter,
    files,
    letter,
    maintain,
    query,
    sound,
    sqlite_spool,
)
from tests.support.server import PATIENCE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@pytest.fixture
def spools() -> Iterator[list[SqliteSpool]]:
    """Return a list of spools that are closed after the test."""
    spools: list[SqliteSpool] = []
    yield spools
    for spool in spools:
        spool.lane(LANE).close()
        spool.close()


def fill_the_disk(spool: SqliteSpool) -> Callable[[], None]:
    """Prevent the file from growing, until the returned function is called."""
    file: Any = spool.store.file
    configure = file._configure

    def configured(connection: sqlite3.Connection) -> None:
        configure(connection)
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    file._configure = configured
    file.disconnect()

    def empty() -> None:
        file._configure = configure
        file.disconnect()

    return empty


# --- a damaged file -------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [b"this is no database" * 500, b"\0" * 8192])
def test_a_file_that_is_not_a_database_is_not_touched(
    path: Path, damage: bytes, spools: list[SqliteSpool], caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(damage)
    spools.append(spool := sqlite_spool(path))

    enter(spool, [event("a")])
    maintain(spool)
    enter(spool, [event("b")])

    assert sorted(labels(claim(spool.lane(LANE), 2))) == ["a", "b"]  # from memory
    assert path.read_bytes() == damage
    assert files(path) == ["spool.db"]
    assert "the file is damaged, or not a spool: move it away with its -wal and -shm" in caplog.text


def test_a_file_that_is_damaged_while_it_is_open_is_used_again_once_it_was_moved_away(
    path: Path, spools: list[SqliteSpool], caplog: pytest.LogCaptureFixture
) -> None:
    """Until then records are kept in memory, although parts of the file could still be written."""
    spools.append(spool := sqlite_spool(path))
    queue = spool.lane(LANE)
    for number in range(100):
        enter(spool, [event(str(number), size=2000)])
    spool.store.file.disconnect()  # checkpoints the log
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + os.urandom(len(whole) - 4096))

    for name in "abc":
        enter(spool, [event(name)])
        maintain(spool)
    pending = queue.fallback.pending
    path.write_bytes(whole)  # in the same file, which this process does not trust any more
    enter(spool, [event("d")])
    maintain(spool)

    assert [pending, queue.fallback.pending] == [3, 4]
    assert path.read_bytes() == whole
    assert "database disk image is malformed; the file is damaged" in caplog.text
    for side in FILE_SUFFIXES:
        if Path(f"{path}{side}").exists():
            Path(f"{path}{side}").rename(f"{path.parent}/moved.db{side}")
    maintain(spool)
    assert counts(queue) == {"captured": 4, "pending": 4}
    assert query(path, "SELECT count(*) FROM queue") == [(4,)]
    assert sound(path)


@pytest.mark.parametrize("emptied", [True, False], ids=["no-database", "database-in-wal-mode"])
@pytest.mark.parametrize("length", [1, 31, 32, 33, 56, 155, 156, 4096, 4152, 8000])
def test_a_process_killed_in_its_first_transaction_leaves_an_empty_spool(
    path: Path, spools: list[SqliteSpool], length: int, emptied: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLite writes the header and each page of the log by separate system calls, between which it can be killed."""
    dead = sqlite_spool(path)
    enter(dead, [event("first")])
    database, log = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    dead.lane(LANE).close()
    dead.close()
    path.write_bytes(b"" if emptied else database)
    Path(f"{path}-wal").write_bytes(log[:length])

    spools.append(spool := sqlite_spool(path))
    enter(spool, [event("second")])

    assert counts(spool.lane(LANE)) == {"captured": 1, "pending": 1}
    assert caplog.text == ""
    assert sound(path)


def test_a_log_of_zeros_left_by_a_system_crash_is_ignored(path: Path, spools: list[SqliteSpool]) -> None:
    path.touch()
    Path(f"{path}-wal").write_bytes(bytes(8192))

    spools.append(spool := sqlite_spool(path))
    enter(spool, [event("second")])

    assert counts(spool.lane(LANE)) == {"captured": 1, "pending": 1}


def test_a_process_killed_during_a_checkpoint_leaves_a_usable_file(
    path: Path, spools: list[SqliteSpool], caplog: pytest.LogCaptureFixture
) -> None:
    """The first page refers to pages that are only in the log, which also happens while another process checkpoints."""
    dead = sqlite_spool(path)
    enter(dead, [event("first")])
    checkpoint(dead.store.file, restart=True)
    for number in range(100):
        enter(dead, [event(str(number), size=2000)])
    small, log = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    dead.lane(LANE).close()
    dead.close()
    path.write_bytes(path.read_bytes()[:4096] + small[4096:])
    Path(f"{path}-wal").write_bytes(log)

    spools.append(spool := sqlite_spool(path))
    maintain(spool)

    assert counts(spool.lane(LANE)) == {"captured": 101, "pending": 101}
    assert caplog.text == ""
    assert sound(path)


def test_another_programs_database_is_not_changed(path: Path, spools: list[SqliteSpool]) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE customers (name)")
    before = path.read_bytes()
    spools.append(spool := sqlite_spool(path))

    enter(spool, [event("a")])

    assert labels(claim(spool.lane(LANE), 1)) == ["a"]  # from memory
    assert path.read_bytes() == before
    assert query(path, "SELECT name FROM sqlite_master") == [("customers",)]


@pytest.mark.parametrize("written_back", [True, False])
def test_the_log_of_another_programs_database_is_not_changed(
    path: Path, written_back: bool, spools: list[SqliteSpool]
) -> None:
    """The database of a process that was killed: its last change, or all of its changes, are only in the log."""
    other = path.parent / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        if written_back:
            connection.execute("CREATE TABLE customers (name)")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("CREATE TABLE orders (name)")
        for side in ("", "-wal"):
            copyfile(f"{other}{side}", f"{path}{side}")
    before = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    spools.append(spool := sqlite_spool(path))

    enter(spool, [event("a")])
    spool.store.file.disconnect()

    assert labels(claim(spool.lane(LANE), 1)) == ["a"]  # from memory
    assert (path.read_bytes(), Path(f"{path}-wal").read_bytes()) == before


def test_a_record_that_cannot_be_decoded_becomes_the_only_dead_letter(
    path: Path, spools: list[SqliteSpool], caplog: pytest.LogCaptureFixture
) -> None:
    spools.append(spool := sqlite_spool(path))
    enter(spool, [event("a"), event("b"), event("c")])
    with spool.store.file.write(1) as it:
        it.execute("UPDATE records SET body = x'ff' WHERE id % 3 = 1")

    left = claim(spool.lane(LANE), 3)

    assert len(left) == 2
    assert counts(spool.lane(LANE)) == {"captured": 3, "pending": 2, "dead": 1}
    assert spool.lane(LANE).dead_letters() == []
    assert "a record in the spool cannot be read" in caplog.text


# --- a file that cannot be used -------------------------------------------------------------------


def test_records_wait_in_memory_if_the_folder_is_missing(
    tmp_path: Path, spools: list[SqliteSpool], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "not" / "yet" / "spool.db"
    spools.append(spool := sqlite_spool(path))
    queue = spool.lane(LANE)
    enter(spool, [event("a"), event("b"), event("c")])
    assert counts(queue) == {"captured": 3, "pending": 3}
    a, b = claim(queue, 2)
    queue.ack([a])
    queue.dead_letter([letter(b)])
    assert queue.mark_in_flight(claim(queue, 1), durably=True)
    assert "records are kept in memory until it can be used" in caplog.text

    path.parent.mkdir(parents=True)
    enter(spool, [event("d")])
    maintain(spool)

    assert counts(queue) == {"captured": 4, "delivered": 1, "dead": 1, "pending": 2}
    assert labels(queue.dead_letters()) == ["b"]
    assert query(path, "SELECT number FROM counts WHERE counter = 'captured'") == [(3,)]  # except the one in flight
    assert sound(path)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Run as an unprivileged user, because root can write to read-only files."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_file_is_not_written(spools: list[SqliteSpool], caplog: pytest.LogCaptureFixture) -> None:
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # other users must be able to enter
        path = Path(folder) / "spool.db"
        spools.append(spool := sqlite_spool(path))
        enter(spool, [event("a")])
        spool.store.file.disconnect()
        path.chmod(0o444)
        with unprivileged():
            enter(spool, [event("b")])
        assert "records are kept in memory until it can be used" in caplog.text

        path.chmod(0o600)
        maintain(spool)

        assert counts(spool.lane(LANE)) == {"captured": 2, "pending": 2}


def test_on_a_full_disk_records_wait_in_memory(path: Path, spools: list[SqliteSpool]) -> None:
    spools.append(spool := sqlite_spool(path, queue_records=3))
    enter(spool, [event("first", size=5000)])
    empty = fill_the_disk(spool)
    queue = spool.lane(LANE)

    for name in "abcde":
        enter(spool, [event(name, size=5000)])
    maintain(spool)
    numbers = counts(queue)
    empty()
    maintain(spool)

    assert numbers == {"captured": 6, "pending": 4, "queue_full": 2}
    assert counts(queue) == {"captured": 6, "pending": 4, "queue_full": 2}
    assert labels(claim(queue, 4)) == ["first", "c", "d", "e"]
    assert query(path, "SELECT number FROM counts WHERE counter = 'bypassed'") == [(3,)]
    assert sound(path)


def test_a_file_on_a_full_disk_is_kept_open(path: Path, spools: list[SqliteSpool]) -> None:
    """Opening it needs space for SQLite's index of the log, which may be used up by then."""
    spools.append(spool := sqlite_spool(path))
    empty = fill_the_disk(spool)
    enter(spool, [event("small")])
    opened = spool.store.file._connection

    enter(spool, [event("large", size=50_000)])

    full = [spool.store.file.is_full]
    assert spool.store.file._connection is opened
    assert opened is not None
    assert not opened.in_transaction
    empty()
    maintain(spool)
    assert [*full, spool.store.file.is_full] == [True, False]
    assert counts(spool.lane(LANE)) == {"captured": 2, "pending": 2}


@pytest.mark.parametrize(
    ("code", "name"),
    [(sqlite3.SQLITE_IOERR_WRITE, "SQLITE_IOERR_WRITE"), (sqlite3.SQLITE_IOERR_SHMSIZE, "SQLITE_IOERR_SHMSIZE")],
)
def test_io_errors_of_quotas_and_limits_count_as_a_full_disk(code: int, name: str) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = code, name

    fault = map_error(error)

    assert type(fault) is StoreFull
    assert str(fault) == f"disk I/O error ({name}: is the disk full, or a quota or a limit on files reached?)"


def test_a_request_waits_for_other_writers_until_the_busy_timeout(
    path: Path, spools: list[SqliteSpool], caplog: pytest.LogCaptureFixture
) -> None:
    spools.append(spool := sqlite_spool(path, spool_timeout=0.01))
    enter(spool, [event("a")])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        enter(spool, [event("b")])
        assert "others were writing for 0.01 s" in caplog.text
        other.execute("ROLLBACK")

    maintain(spool)

    assert labels(claim(spool.lane(LANE), 2)) == ["a", "b"]
    assert query(path, "SELECT number FROM counts WHERE counter = 'bypassed'") == [(1,)]


def test_a_request_writes_once_the_other_writer_is_done(path: Path, spools: list[SqliteSpool]) -> None:
    spools.append(spool := sqlite_spool(path, spool_timeout=PATIENCE))
    enter(spool, [event("a")])
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = threading.Thread(target=enter, args=(spool, [event("b")]))
        waiting.start()
        other.execute("ROLLBACK")
        waiting.join(PATIENCE)

    assert query(path, "SELECT count(*) FROM queue") == [(2,)]


def test_a_record_captured_during_a_write_by_the_same_thread_is_queued(path: Path, spools: list[SqliteSpool]) -> None:
    """A signal handler captures it on the thread that writes."""
    spools.append(spool := sqlite_spool(path, spool_timeout=PATIENCE))

    with spool.store.file.write(PATIENCE):
        enter(spool, [event("from a signal handler")])
    maintain(spool)

    assert labels(claim(spool.lane(LANE), 1)) == ["from a signal handler"]
    assert query(path, "SELECT count(*) FROM queue") == [(1,)]


def test_records_in_memory_at_the_end_are_counted_as_lost(tmp_path: Path) -> None:
    spool = sqlite_spool(tmp_path / "none" / "spool.db")
    enter(spool, [event("a"), event("b")])

    assert spool.lane(LANE).close() == 2
    spool.close()


# --- a file that goes away ------------------------------------------------------------------------


@pytest.mark.parametrize("sides", [("",), ("", "-wal", "-shm"), ("", "-wal", "-shm", "-owner-*")])
def test_the_process_that_has_created_a_file_replaces_it(
    path: Path, sides: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    spool = sqlite_spool(path)
    enter(spool, [event("a")])
    for side in sides:
        for file in path.parent.glob(f"{path.name}{side}"):
            file.unlink()
    maintain(spool)
    assert query(path, "SELECT count(*) FROM queue") == [(1,)]
    assert "the file was moved or deleted" in caplog.text
    spool.lane(LANE).close()
    spool.close()


@pytest.mark.parametrize("sides", [("",), ("", "-wal", "-shm"), ("", "-wal", "-shm", "-owner-*")])
def test_a_new_file_replaces_a_deleted_one_with_its_records(
    path: Path, sides: tuple[str, ...], spools: list[SqliteSpool], caplog: pytest.LogCaptureFixture
) -> None:
    spools += [sqlite_spool(path), sqlite_spool(path)]
    for spool in spools:
        enter(spool, [event("a"), event("b")])
    claimed = claim(spools[0].lane(LANE), 1)  # three more are prefetched
    for side in sides:
        for file in path.parent.glob(f"{path.name}{side}"):
            file.unlink()

    for spool in [*spools, *spools]:
        maintain(spool)
    enter(spools[0], [event("c")])

    assert spools[0].lane(LANE).mark_in_flight(claimed, durably=True) == []  # it was enqueued in the new file
    assert counts(spools[0].lane(LANE)) == {"captured": 5, "pending": 5}
    assert "the file was moved or deleted" in caplog.text
    assert sound(path)
    assert sorted(labels(claim(spools[1].lane(LANE), 5))) == ["a", "a", "b", "b", "c"]


@pytest.mark.parametrize("replacement", ["nothing", "a directory", "another database"])
def test_claimed_records_of_a_file_that_cannot_be_replaced_are_sent_from_memory(
    replacement: str, tmp_path: Path, spools: list[SqliteSpool]
) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    path = folder / "spool.db"
    spools.append(spool := sqlite_spool(path))
    queue = spool.lane(LANE)
    enter(spool, [goal("a"), goal("b")])
    claimed = claim(queue, 1)
    folder.rename(tmp_path / "gone")
    if replacement != "nothing":
        folder.mkdir()
    if replacement == "a directory":
        path.mkdir()
    elif replacement == "another database":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE shop (id)")

    maintain(spool)

    assert queue.mark_in_flight(claimed, durably=True) == []
    again = claim(queue, 2)
    assert sorted(labels(again)) == ["a", "b"]
    assert queue.mark_in_flight(again, durably=True) == again
    queue.ack(again)
    assert counts(queue) == {"captured": 2, "delivered": 2}


def test_a_row_id_that_a_returned_file_has_reused_does_not_hold_the_old_record() -> None:
    first, second = replace(event("a"), handle=7), replace(event("b"), handle=7)
    claims = Claims()
    claims.switch_epoch(1)
    claims.add([first])
    claims.switch_epoch(2)
    claims.switch_epoch(1)
    claims.add([second])

    assert claims.still_held([first]) == []
    assert claims.still_held([second]) == [second]


def test_what_a_replaced_file_has_marked_is_still_held() -> None:
    claims, entry = Claims(), replace(event("a"), handle=7)
    claims.switch_epoch(1)
    claims.add([entry])
    claims.mark_in_flight([entry], {7}, epoch=0)

    assert claims.in_flight == 1
    assert claims.still_held([entry]) == [entry]


def test_what_is_claimed_while_the_queue_closes_is_not_sent() -> None:
    claims = Claims()
    claims.close()

    claims.add([replace(event("a"), handle=7)])

    assert claims.prefetched == 0


def test_a_moved_file_keeps_no_record_that_the_new_one_sends(path: Path, spools: list[SqliteSpool]) -> None:
    spools.append(spool := sqlite_spool(path))
    enter(spool, [event("a")])
    for side in FILE_SUFFIXES:
        Path(f"{path}{side}").rename(f"{path.parent}/moved.db{side}")

    maintain(spool)

    assert query(path, "SELECT count(*) FROM queue") == [(1,)]
    assert query(path.parent / "moved.db", "SELECT count(*) FROM queue") == [(0,)]


# --- schemas --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "message"), [(99, "a newer release has created it"), (0, "an older release has")])
def test_a_file_with_another_schema_is_not_touched(
    path: Path, spools: list[SqliteSpool], version: int, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = sqlite_spool(path)
    enter(first, [event("a")])
    first.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    spools.append(spool := sqlite_spool(path))

    enter(spool, [event("b")])

    assert message in caplog.text
    assert f"(schema {version}, this release uses {schema.VERSION})" in caplog.text
    assert labels(claim(spool.lane(LANE), 2)) == ["b"]
    assert path.read_bytes() == before
    assert query(path, "SELECT count(*) FROM queue") == [(1,)]


def test_an_error_is_logged_once_and_a_busy_file_is_not_logged(
    path: Path, spools: list[SqliteSpool], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    spools.append(spool := sqlite_spool(path))
    enter(spool, [event("a")])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        spool.clock.skips_pauses = True
        assert list(spool.lane(LANE).claim(1, 1)) == []
        other.execute("ROLLBACK")

    assert caplog.text == ""
    assert labels(claim(spool.lane(LANE), 1)) == ["a"]
    assert spool.lane(LANE).maintain() > spool.clock.monotonic()


def test_a_lane_that_was_not_registered_is_added_by_its_first_record(path: Path, spools: list[SqliteSpool]) -> None:
    spools.append(spool := sqlite_spool(path))
    enter(spool, [event("a")])

    enter(spool, [event("b")], lane="new")
    spool.enqueue([])

    assert counts(spool.lane("new")) == {"captured": 1, "pending": 1}


def test_a_moved_file_that_another_program_locks_keeps_its_records(
    path: Path, spools: list[SqliteSpool], caplog: pytest.LogCaptureFixture
) -> None:
    spools.append(spool := sqlite_spool(path))
    enter(spool, [event("a")])
    for side in FILE_SUFFIXES:
        Path(f"{path}{side}").rename(f"{path.parent}/moved.db{side}")

    with closing(sqlite3.connect(path.parent / "moved.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert spool.store.check() == {}

    assert "the file was moved or deleted" in caplog.text
    assert query(path.parent / "moved.db", "SELECT count(*) FROM queue") == [(1,)]


def test_a_closed_store_claims_nothing(path: Path, spools: list[SqliteSpool]) -> None:
    spools.append(spool := sqlite_spool(path))
    enter(spool, [event("a")])
    spool.store.close()

    with pytest.raises(StoreUnavailable, match="the spool is closed"):
        spool.store.claim("test", max_records=1, max_bytes=1000, timeout=1.0)
