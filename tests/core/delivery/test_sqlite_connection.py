"""A store's connection: checkpoints, and processes that were forked."""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from sessionsight.delivery.stores.errors import StoreBusy
from sessionsight.delivery.stores.sqlite import connection as sqlite_connection
from sessionsight.delivery.stores.sqlite.connection import SqliteConnection
from sessionsight.delivery.stores.sqlite.maintenance import checkpoint
from tests.core.delivery.spool_processes import finish, start
from tests.core.delivery.spools import query
from tests.support.server import PATIENCE, Server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@pytest.fixture
def connection(path: Path) -> Iterator[SqliteConnection]:
    connection = SqliteConnection(str(path), synchronous="normal")
    with connection.write(20) as cursor:
        cursor.execute("CREATE TABLE shop (product)")
    yield connection
    connection.close()


def test_a_connection_that_another_thread_uses_is_busy(connection: SqliteConnection) -> None:
    inside, leave = threading.Event(), threading.Event()

    def write() -> None:
        with connection.write(PATIENCE):
            inside.set()
            assert leave.wait(PATIENCE)

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        assert inside.wait(PATIENCE)
        with pytest.raises(StoreBusy, match="another thread is writing"), connection.write(0):
            pass
        leave.set()
        writing.result()


def test_an_error_while_a_cursor_is_made_releases_the_connection_for_other_threads(
    connection: SqliteConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(sqlite3.Cursor):
        def __init__(self, _: sqlite3.Connection) -> None:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_connection, "Cursor", Interrupted)
        with pytest.raises(KeyboardInterrupt), connection.write(0):
            pass

    def write() -> None:
        with connection.write(0) as cursor:
            cursor.execute("INSERT INTO shop VALUES ('mug')")

    with ThreadPoolExecutor(1) as pool:
        pool.submit(write).result(PATIENCE)


def test_a_checkpoint_empties_the_log(connection: SqliteConnection, path: Path) -> None:
    checkpoint(connection, restart=False)
    with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as without_log:
        assert without_log.execute("SELECT count(*) FROM shop").fetchall() == [(0,)]


@pytest.mark.processes
@pytest.mark.measured_processes
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc to wait for quiet")
def test_a_child_of_a_child_that_c_code_forked_does_not_use_its_grandparents_connection(path: Path) -> None:
    script = """
from sessionsight.delivery.stores.errors import StoreUnavailable
from sessionsight.delivery.stores.sqlite.connection import SqliteConnection

connection = SqliteConnection(SPOOL, synchronous="normal")
with connection.write(20) as cursor:
    cursor.execute("CREATE TABLE shop (product)")


def write():
    try:
        with connection.write(20) as cursor:
            cursor.execute("DELETE FROM shop")
    except StoreUnavailable as error:
        os.write(1, str(error).encode())


if (child := fork_in_c()) == 0:
    if (grandchild := os.fork()) == 0:
        write()
        os._exit(0)
    reap(grandchild)
    os._exit(0)
reap(child)
with connection.write(20) as cursor:
    cursor.execute("INSERT INTO shop VALUES ('mug')")
connection.close()
"""
    with Server() as server:
        said = " ".join(finish(start(script, server, path)))
    assert said == "it was opened by the process that this one was forked from"
    assert query(path, "SELECT product FROM shop") == [("mug",)]
