"""Databases with the outbox's tables that SQLAlchemy connects to, on real servers, and durable spools in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.durable_spool import DurableSpool
from sessionsight.delivery.queue.factory import open_database_store
from sessionsight.log import ThrottledLogger
from sessionsight.sqlalchemy import metadata
from sessionsight.sqlalchemy.store import SqlAlchemyStore
from tests.support.clock import RunningClock
from tests.support.databases import emptied_database, empty_database

ENGINES = ("postgresql", "mariadb", "sqlite")
# The row `drivers` of noxfile.py installs the first ones.
DRIVERS = {
    "postgresql": "psycopg2" if find_spec("psycopg2") else "psycopg",
    "mariadb": "mysqldb" if find_spec("MySQLdb") else "pymysql",
}


@contextmanager
def sqlalchemy_database(engine: str, folder: Path, *, create: bool = True, reuse: bool = False) -> Iterator[str]:
    """The URL of a database of this test's own, with the tables.

    Args:
        engine: One of the `ENGINES`.
        folder: For the file of SQLite.
        create: Create the tables.
        reuse: Take one whose tables are there, and leave it to other tests, because this one changes only rows.
    """
    with _address(engine, folder, reuse=reuse) as (url, new):
        if create and new:
            create_tables(url)
        yield url


@contextmanager
def _address(engine: str, folder: Path, *, reuse: bool) -> Iterator[tuple[str, bool]]:
    """The URL of a database, and whether it is a new one."""
    if engine == "sqlite":
        yield f"sqlite:///{folder / uuid4().hex}.sqlite3", True
    elif reuse:
        with emptied_database(engine, "sqlalchemy") as (url, new):
            yield _with_driver(engine, url), new
    else:
        with empty_database(engine) as url:
            yield _with_driver(engine, url), True


def _with_driver(engine: str, url: str) -> str:
    scheme = urlsplit(url).scheme
    return urlsplit(url)._replace(scheme=f"{scheme}+{DRIVERS[engine]}").geturl()


def create_tables(url: str) -> None:
    engine = create_engine(url, poolclass=NullPool)
    metadata.create_all(engine)
    engine.dispose()


def execute(url: str, statement: str, **parameters: Any) -> list[Any]:
    """Execute a statement on a connection of its own, and return its rows."""
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        result = connection.execute(text(statement), parameters)
        return list(result) if result.returns_rows else []


def rows(url: str, table: str) -> int:
    """How many rows a table of the outbox has."""
    [(number,)] = execute(url, f"SELECT count(*) FROM sessionsight_{table}")
    return int(number)


def sqlalchemy_store(url: str, **options: Any) -> SqlAlchemyStore:
    store: SqlAlchemyStore = open_database_store(
        f"sqlalchemy:{url}", DeliveryOptions(**options), ThrottledLogger(), clock=RunningClock(), timeout=20.0
    )
    return store


def sqlalchemy_spool(url: str, *lanes: str, **options: Any) -> DurableSpool:
    """A spool with lanes. Its timeout is long."""
    chosen, clock = DeliveryOptions(**{"spool_timeout": 20.0, **options}), RunningClock()
    store = open_database_store(f"sqlalchemy:{url}", chosen, ThrottledLogger(), clock=clock, timeout=20.0)
    spool = DurableSpool(store, chosen, ThrottledLogger(), clock=clock)
    for lane in lanes:
        spool.lane(lane)
    return spool
