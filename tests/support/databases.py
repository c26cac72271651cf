"""Empty databases for tests, on real servers."""

from __future__ import annotations

import atexit
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import pymysql

from tests.support.brokers import need_mariadb, need_postgresql

__all__ = ["TABLES", "emptied_database", "empty_database", "execute_on_server"]

_psycopg: Any = import_module("psycopg" if find_spec("psycopg") else "psycopg2")  # as the row `drivers` of noxfile.py
TABLES = ("inbox", "queue", "dead_letter", "key", "batch", "count", "owner", "reach")

# Databases that wait for the next test, because it takes long to create and to drop one: empty ones of PostgreSQL, and
# those with empty tables, by server and kind of tables.
_free: dict[tuple[str, str], list[str]] = defaultdict(list)


@contextmanager
def empty_database(engine: str) -> Iterator[str]:
    """Lend the URL of an empty database, on PostgreSQL or MariaDB."""
    free = _free[engine, ""]
    name = free.pop() if free else _create(engine, "")
    url = _url(engine, name)
    try:
        yield url
    finally:
        if engine == "postgresql":
            _execute(url, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()")  # fmt: skip
            _execute(url, f"ALTER DATABASE {name} RESET ALL; DROP SCHEMA public CASCADE; CREATE SCHEMA public")
            free.append(name)
        else:
            _drop(engine, name)


@contextmanager
def emptied_database(engine: str, kind: str) -> Iterator[tuple[str, bool]]:
    """Lend the URL of a database with empty tables, for a test that only changes their rows.

    Args:
        engine: PostgreSQL or MariaDB.
        kind: A name for the tables.

    Yields:
        The URL, and whether the tables must be created.
    """
    free = _free[engine, kind]
    name, new = (free.pop(), False) if free else (_create(engine, kind), True)
    url = _url(engine, name)
    yield url, new  # a test that fails may have left it in any state
    _execute(url, *(f"DELETE FROM sessionsight_{table}" for table in TABLES))
    free.append(name)


def execute_on_server(engine: str, statement: str) -> None:
    """Execute a statement that concerns more than one database."""
    _execute(_url(engine), statement)


def _create(engine: str, kind: str) -> str:
    name = f"sessionsight_{uuid4().hex}"
    execute_on_server(engine, f"CREATE DATABASE {name}")
    if engine == "postgresql" or kind:
        atexit.register(_drop, engine, name, os.getpid())
    return name


def _drop(engine: str, name: str, process: int | None = None) -> None:
    if process in {None, os.getpid()}:  # and not a fork of it
        force = " WITH (FORCE)" if engine == "postgresql" else ""
        execute_on_server(engine, f"DROP DATABASE IF EXISTS {name}{force}")


def _url(engine: str, name: str | None = None) -> str:
    url = urlsplit(need_postgresql() if engine == "postgresql" else need_mariadb())
    return (url._replace(path=f"/{name}") if name else url).geturl()


def _execute(address: str, *statements: str) -> None:
    if address.startswith("postgres"):
        with closing(_psycopg.connect(address)) as connection:
            connection.autocommit = True
            for statement in statements:
                connection.cursor().execute(statement)
        return
    url = urlsplit(address)
    user, password, database = unquote(url.username or ""), unquote(url.password or ""), url.path[1:]
    with pymysql.connect(
        host=url.hostname, port=url.port or 3306, user=user, password=password, database=database
    ) as connection:
        for statement in statements:
            connection.cursor().execute(statement)
        connection.commit()
