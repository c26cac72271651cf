"""The connections that the outbox opens itself."""

from __future__ import annotations

import gc
import os

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from sessionsight.sql_store import connection as sql_connection
from sessionsight.sqlalchemy.connection import Cursor, own_connection
from sessionsight.stores import AnswerLost, StoreBusy, StoreUnavailable
from tests.core.sqlalchemy.orders import (
    on_postgresql,
)
from tests.core.sqlalchemy_databases import DRIVERS, execute, rows, sqlalchemy_store
from tests.support.own_transactions import transaction


@on_postgresql
def test_postgresql_vacuums_the_tables_of_short_lived_rows_often(database: str) -> None:
    found = execute(database, "SELECT relname, reloptions FROM pg_class WHERE 'fillfactor=70' = ANY (reloptions)")
    assert {name for name, _ in found} == {f"sessionsight_{table}" for table in ("inbox", "queue", "count")}
    assert all("autovacuum_vacuum_threshold=1000" in options for _, options in found)


def test_parameters_are_marked_as_the_driver_wants_them() -> None:
    marked = {}
    for style in ("qmark", "numeric_dollar", "pyformat"):
        with create_engine("sqlite://", paramstyle=style, poolclass=NullPool).connect() as connection:
            marked[style] = Cursor(connection)._marked("VALUES (%s, %s)")
    assert marked == {"qmark": "VALUES (?, ?)", "numeric_dollar": "VALUES ($1, $2)", "pyformat": "VALUES (%s, %s)"}


def test_a_repeated_write_counts_once_also_after_it_was_taken_in(database: str) -> None:
    store = sqlalchemy_store(database)
    for _ in range(2):
        store.enqueue([], {("analyse", "captured"): 1}, batch_id=b"0123456789", timeout=20.0)
        assert store.counts("analyse")["captured"] == 1
    store.close()


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_a_forked_child_leaves_the_connection_to_its_parent(database: str) -> None:
    own = own_connection(create_engine(database).url)
    sessions = []
    for _ in range(2):
        with transaction(own) as cursor:
            cursor.execute("SELECT pg_backend_pid()" if cursor.db.vendor == "postgresql" else "SELECT connection_id()")
            sessions.append(cursor.fetchone()[0])
        child = os.fork()
        if child == 0:
            own.close()
            del own, cursor
            gc.collect()
            os._exit(0)
        os.waitpid(child, 0)
    with transaction(own) as cursor:
        cursor.execute("SELECT 1")
    assert sessions[0] == sessions[1]
    own.close()


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
@pytest.mark.parametrize("committing", [True, False])
def test_a_lost_connection_is_replaced(database: str, *, committing: bool) -> None:
    own = own_connection(create_engine(database).url)
    with pytest.raises(StoreUnavailable) as raised:
        lose(own, database, committing=committing)
    assert isinstance(raised.value, AnswerLost) is committing
    assert not own.is_open
    with transaction(own) as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    own.close()


def lose(own: sql_connection.OwnConnection, database: str, *, committing: bool) -> None:
    """Lose a connection at the commit, or before it."""
    functions = {"postgresql": ("pg_backend_pid()", "SELECT pg_terminate_backend({}, 5000)")}
    with transaction(own) as cursor:
        current, kill = functions.get(cursor.db.vendor, ("connection_id()", "KILL {}"))
        cursor.execute(f"SELECT {current}")
        execute(database, kill.format(cursor.fetchone()[0]))
        if not committing:
            cursor.execute("SELECT 1")


def test_a_locked_row_or_file_is_a_busy_store(database: str) -> None:
    own, other = own_connection(create_engine(database).url), own_connection(create_engine(database).url)
    with transaction(own) as cursor:
        cursor.execute("INSERT INTO sessionsight_owner (owner, expires_at, on_trial) VALUES ('a', 0, 0)")
        with pytest.raises(StoreBusy):
            add_owner(other, cursor.db.vendor)
    assert rows(database, "owner") == 1
    own.close()
    other.close()


def add_owner(own: sql_connection.OwnConnection, vendor: str) -> None:
    """Add an owner, without waiting for long."""
    limit = "SET LOCAL lock_timeout = 10" if vendor == "postgresql" else "SET innodb_lock_wait_timeout = 1"
    with transaction(own, 0.01) as cursor:
        cursor.execute(limit)
        cursor.execute("INSERT INTO sessionsight_owner (owner, expires_at, on_trial) VALUES ('a', 0, 0)")


def test_a_server_that_does_not_answer_is_unavailable() -> None:
    own = own_connection(create_engine(f"postgresql+{DRIVERS['postgresql']}://127.0.0.1:1/shop?connect_timeout=2").url)
    with pytest.raises(StoreUnavailable), transaction(own):
        pass
