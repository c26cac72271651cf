"""Connections of SQLAlchemy with the cursors of a SQL store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import URL, create_engine
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from sessionsight.errors import ConfigurationError, MissingDependencyError
from sessionsight.sql_store.connection import CONNECT_TIMEOUT, KEEPALIVES, READ_TIMEOUT, OwnConnection
from sessionsight.sql_store.dialect import store_error
from sessionsight.stores import ForeignDatabase, StoreError

__all__ = ["Cursor", "database_url", "mapped_error", "own_connection", "vendor_of"]

_MISSING = "the tables are missing: create those of sessionsight.sqlalchemy.metadata"
_VENDORS = {"postgresql": "postgresql", "mysql": "mysql", "mariadb": "mysql", "sqlite": "sqlite"}


class Cursor:
    """The part of a DB-API cursor that a SQL store uses, over a connection of SQLAlchemy.

    That of an async session works as well, in its greenlet.
    """

    def __init__(self, connection: Connection) -> None:
        self.db = self
        self.vendor = _VENDORS[connection.dialect.name]
        self._connection = connection
        self._style = connection.dialect.paramstyle
        self._result: Any = None

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> None:
        """Execute a statement with `%s` for its parameters."""
        self._result = self._connection.exec_driver_sql(self._marked(statement), tuple(parameters) or None)

    def executemany(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Execute a statement for each row of parameters, of which there is at least one."""
        self._result = self._connection.exec_driver_sql(self._marked(statement), [tuple(row) for row in rows])

    def fetchone(self) -> Any:
        """Return the next row."""
        return self._result.fetchone()

    def fetchall(self) -> Any:
        """Return all rows that are left."""
        return self._result.fetchall()

    @property
    def rowcount(self) -> int:
        """The number of rows that the last statement has changed."""
        return int(self._result.rowcount)

    def _marked(self, statement: str) -> str:
        """Return a statement with the driver's marks for parameters."""
        if self._style in ("format", "pyformat"):
            return statement
        head, *parts = statement.split("%s")
        marks = ("?" if self._style == "qmark" else f"${number}" for number in range(1, len(parts) + 1))
        return head + "".join(f"{mark}{part}" for mark, part in zip(marks, parts, strict=True))


class _OwnedConnection:
    """A `sessionsight.sql_store.connection.Connection`."""

    def __init__(self, url: URL) -> None:
        options: dict[str, Any] = {}
        file = url.database or ""
        if url.get_backend_name() == "sqlite" and not file.startswith("file:") and not Path(file).exists():
            raise ForeignDatabase(f"the file {file} does not exist, so {_MISSING}")
        driver = url.get_driver_name()
        if driver in ("psycopg", "psycopg2"):
            options |= KEEPALIVES | {"connect_timeout": CONNECT_TIMEOUT}
        elif driver in ("pymysql", "mysqldb"):
            options |= {"read_timeout": READ_TIMEOUT, "connect_timeout": CONNECT_TIMEOUT}
        options = {name: value for name, value in options.items() if name not in url.query}
        if driver == "psycopg":
            options["prepare_threshold"] = None  # a pooler of transactions knows no prepared statements
        engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=options)
        self._connection = engine.connect()
        self._connection.detach()  # a child that is forked must not close it with its pool
        self.vendor = _VENDORS[engine.dialect.name]
        if self.vendor == "mysql":
            self._connection.exec_driver_sql("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")

    @contextlib.contextmanager
    def cursor(self) -> Iterator[Cursor]:
        """Return a cursor."""
        yield Cursor(self._connection)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def own_connection(url: URL) -> OwnConnection:
    """Return a connection of the store's own to a database."""
    return OwnConnection(lambda: _OwnedConnection(url), _mapped_errors)


def database_url(spool: str, url: str) -> URL:
    """Return the URL of a spool's database, for its own connections.

    Args:
        spool: The setting without its password, for messages.
        url: The URL.

    Raises:
        ConfigurationError: It is none of SQLAlchemy, or has an async driver, or a database that is not supported.
        MissingDependencyError: The driver is not installed.
    """
    try:
        found = make_url(url)
        dialect = found.get_dialect()
        dialect.import_dbapi()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise ConfigurationError(f"spool: {spool!r} is not a URL of SQLAlchemy") from error
    except ImportError as error:
        raise MissingDependencyError(f"spool: {spool!r} needs the driver {error.name}: pip install it") from error
    if dialect.is_async:
        raise ConfigurationError(
            f"spool: {spool!r} has an async driver, but threads of delivery use it: name another one, such as "
            "postgresql+psycopg, mysql+pymysql or sqlite; the sessions of the app may keep theirs"
        )
    if dialect.name not in _VENDORS or (dialect.name == "sqlite" and found.database in (None, "", ":memory:")):
        raise ConfigurationError(
            f"spool: {spool!r} cannot be an outbox: PostgreSQL, MySQL, MariaDB and SQLite files are supported"
        )
    return found


def vendor_of(url: URL) -> str | None:
    """Return `postgresql`, `mysql` or `sqlite`; None for another database."""
    return _VENDORS.get(url.get_backend_name())


def mapped_error(error: DBAPIError, *, committing: bool = False) -> StoreError:
    """Return an error of SQLAlchemy as an error of a store."""
    return store_error(error.orig, str(error.orig).strip(), committing=committing, missing=_MISSING)


@contextlib.contextmanager
def _mapped_errors(*, committing: bool = False) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise mapped_error(error, committing=committing) from error
