"""Empty databases for tests, on real servers."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import pymysql

from tests.support.brokers import need_mariadb, need_postgresql

__all__ = ["empty_database", "execute_on_server"]

_psycopg: Any = import_module("psycopg" if find_spec("psycopg") else "psycopg2")  # as the row `drivers` of noxfile.py
# Databases of PostgreSQL, which takes long to create or drop one, and less time to empty it.
_free: list[str] = []


@contextmanager
def empty_database(engine: str) -> Iterator[str]:
    """Lend the URL of an empty database, on PostgreSQL or MariaDB."""
    name = _free.pop() if engine == "postgresql" and _free else _create(engine)
    url = _url(engine, name)
    try:
        yield url
    finally:
        if engine == "postgresql":
            _execute(url, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()")  # fmt: skip
            _execute(url, f"ALTER DATABASE {name} RESET ALL; DROP SCHEMA public CASCADE; CREATE SCHEMA public")
            _free.append(name)
        else:
            execute_on_server(engine, f"DROP DATABASE {name}")


def execute_on_server(engine: str, statement: str) -> None:
    """Execute a statement that concerns more than one database."""
    _execute(_url(engine), statement)


def _create(engine: str) -> str:
    name = f"sessionsight_{uuid4().hex}"
    execute_on_server(engine, f"CREATE DATABASE {name}")
    if engine == "postgresql":
        atexit.register(_drop, name, os.getpid())
    return name


def _drop(name: str, process: int) -> None:
    if os.getpid() == process:  # and not in a fork of it
        execute_on_server("postgresql", f"DROP DATABASE {name} WITH (FORCE)")


def _url(engine: str, name: str | None = None) -> str:
    url = urlsplit(need_postgresql() if engine == "postgresql" else need_mariadb())
    return (url._replace(path=f"/{name}") if name else url).geturl()


def _execute(address: str, statement: str) -> None:
    if address.startswith("postgres"):
        with closing(_psycopg.connect(address)) as connection:
            connection.autocommit = True
            connection.cursor().execute(statement)
        return
    url = urlsplit(address)
    user, password = unquote(url.username or ""), unquote(url.password or "")
    with pymysql.connect(host=url.hostname, port=url.port or 3306, user=user, password=password) as server:
        server.cursor().execute(statement)
