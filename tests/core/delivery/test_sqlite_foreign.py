"""Files of other programs, beside a spool or at its path: never opened for writing, renamed or removed."""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

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
    maintain,
    sqlite_spool,
)

MakeSpool = Callable[[Path], SqliteSpool]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "analytics.db"


@pytest.fixture
def make() -> Iterator[MakeSpool]:
    spools: list[SqliteSpool] = []

    def make_spool(path: Path) -> SqliteSpool:
        spools.append(sqlite_spool(path))
        return spools[-1]

    yield make_spool
    for spool in spools:
        spool.lane(LANE).close()
        spool.close()


def work(spool: SqliteSpool) -> list[str]:
    """Use a spool for everything: enqueue, claim and resolve records, maintain it, and close it."""
    queue = spool.lane(LANE)
    enter(spool, [goal("g", key="k"), event("a"), event("b")])
    queue.begin_shutdown()  # keyed records are not deferred
    for _ in range(2):
        maintain(spool)
    claimed = claim(queue, 3)
    assert queue.mark_in_flight(claimed, durably=True) == claimed
    queue.ack(claimed[:2])
    queue.dead_letter([letter(claimed[2])])
    spool.maintain()
    queue.close()
    spool.close()
    return sorted(labels(claimed))


def contents(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """Return all files of a folder with their content, inode and time of change."""
    found = {}
    for file in folder.iterdir():
        stat = file.stat(follow_symlinks=False)
        found[file.name] = (file.read_bytes() if file.is_file() else b"", stat.st_ino, stat.st_mtime_ns)
    return found


def foreign_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE customers (name)")


# --- beside it ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "analytics.db.20261129",
        "analytics.db.20261129-wal",
        "analytics.db.4242",
        "analytics.db.bak",
        "analytics.db.corrupt-20261129-101500",
        "analytics.db.corrupt-20261129-101500-wal",
        "analytics.db.owner-5d3f9e0c11",
        "analytics.db.lock",
        "analytics.db-journal.old",
        "analytics.db~",
        "other.db-wal",
    ],
)
def test_other_files_beside_a_spool_are_not_changed(path: Path, make: MakeSpool, name: str) -> None:
    beside = path.parent / name
    beside.write_bytes(b"somebody else's")
    os.utime(beside, (0, 0))
    before = contents(path.parent)

    work(make(path))

    assert {name: contents(path.parent)[name]} == before


def test_a_backup_of_a_spool_is_not_changed(path: Path, make: MakeSpool) -> None:
    """Its name ends with a number like that of a process, and it contains records."""
    dead = make(path)
    enter(dead, [goal("g", key="order-1"), event("a")])
    claim(dead.lane(LANE), 1)
    backup = Path(f"{path}.20261129")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(backup)) as target:
        source.backup(target)
    before = backup.read_bytes()
    abandon(dead)
    spool = make(path)
    queue = spool.lane(LANE)

    spool.maintain()
    queue.ack(claim(queue, 2))
    spool.maintain()

    assert list(queue.claim(10, 10**9)) == []
    assert counts(queue) == {"captured": 2, "delivered": 2}
    assert backup.read_bytes() == before


@pytest.mark.parametrize("side", ["-wal", "-shm", "-journal"])
def test_a_log_that_may_belong_to_another_database_is_not_changed(
    path: Path, make: MakeSpool, side: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its database was moved away temporarily. SQLite itself would delete such a log."""
    log = Path(f"{path}{side}")
    log.write_bytes(b"somebody else's transactions" * 100)
    before = contents(path.parent)

    assert work(make(path)) == ["a", "b", "g"]  # from memory

    assert contents(path.parent) == before
    assert f"there is {log} without its database" in caplog.text


# --- at its path ----------------------------------------------------------------------------------


def a_database(path: Path) -> None:
    foreign_database(path)


def a_database_with_a_number_of_its_own(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 42")
        connection.execute("PRAGMA user_version = 7")


def a_newer_spool(path: Path) -> None:
    spool = sqlite_spool(path)
    enter(spool, [event("of a newer release")])
    spool.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


def a_text(path: Path) -> None:
    path.write_text("DEBUG = False\n" * 100)


def an_archive(path: Path) -> None:
    path.write_bytes(b"\x1f\x8b\x08\x00" + os.urandom(5000))


def a_directory(path: Path) -> None:
    path.mkdir()


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as made:
        folder = os.open(path.parent, os.O_RDONLY)
        here = Path.cwd()
        try:
            os.fchdir(folder)  # the path of a socket has a length limit
            made.bind(path.name)
        finally:
            os.chdir(here)
            os.close(folder)


def a_link_to_nothing(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere" / "other.db")


@pytest.mark.parametrize(
    "put",
    [
        a_database,
        a_database_with_a_number_of_its_own,
        a_newer_spool,
        a_text,
        an_archive,
        a_directory,
        a_pipe,
        a_socket,
        a_link_to_nothing,
    ],
)
def test_another_file_at_the_path_is_not_changed(
    path: Path, make: MakeSpool, put: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """The path is wrong: records are delivered from memory, and an error is logged."""
    put(path)
    before = contents(path.parent)
    caplog.set_level(logging.ERROR)

    assert work(make(path)) == ["a", "b", "g"]

    assert contents(path.parent) == before
    assert "records are kept in memory until it can be used" in caplog.text


def test_a_database_that_the_application_has_open_is_not_changed(path: Path, make: MakeSpool) -> None:
    """For example Django's, during a transaction, with a log."""
    with closing(sqlite3.connect(path, isolation_level=None)) as app:
        app.execute("PRAGMA journal_mode = WAL")
        app.execute("CREATE TABLE orders (id)")
        app.execute("BEGIN IMMEDIATE")
        app.execute("INSERT INTO orders VALUES (1)")
        before = contents(path.parent)

        assert work(make(path)) == ["a", "b", "g"]

        assert contents(path.parent) == before
        app.execute("COMMIT")
        assert app.execute("SELECT id FROM orders").fetchall() == [(1,)]
        assert app.execute("PRAGMA user_version").fetchall() == [(0,)]


def test_another_programs_file_is_not_opened_for_writing(
    path: Path, make: MakeSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign_database(path)
    opened: list[str] = []
    connect = sqlite3.connect

    def listen(database: str, **options: Any) -> sqlite3.Connection:
        opened.append(database)
        connection: sqlite3.Connection = connect(database, **options)
        return connection

    monkeypatch.setattr(sqlite3, "connect", listen)

    work(make(path))

    assert opened
    assert all(uri.endswith("?mode=ro&immutable=1") for uri in opened)


def test_a_symbolic_link_is_resolved_once(path: Path, make: MakeSpool, tmp_path: Path) -> None:
    """The setting's path is resolved when it is read, and all files are beside the target."""
    from sessionsight.spool_url import sqlite_path

    volume = tmp_path / "volume"
    volume.mkdir()
    path.symlink_to(volume / "real.db")
    real = sqlite_path(f"sqlite:///{path}")
    assert real == os.path.realpath(volume / "real.db")

    work(make(Path(real)))

    assert files(path) == ["analytics.db", "volume"]
    assert files(Path(real)) == ["real.db"]
