"""Databases with the outbox's tables, on real servers, and durable spools in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import pymysql

from tests.conformance import django_project  # noqa: F401  # sets Django up

# isort: split
from django.core.management import call_command
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.durable_spool import DurableSpool
from sessionsight.log import ThrottledLogger
from sessionsight_django.outbox import join
from sessionsight_django.outbox.store import DjangoStore
from tests.support.clock import RunningClock
from tests.support.databases import emptied_database, empty_database

ENGINES = ("postgresql", "mariadb", "sqlite_orm")


@contextmanager
def outbox_database(
    engine: str, folder: Path, alias: str = "outbox", *, migrate: bool = True, reuse: str = ""
) -> Iterator[str]:
    """A database of this test's own under an alias, with the tables of the outbox.

    Args:
        engine: One of the `ENGINES`.
        folder: For the file of SQLite.
        alias: Django's name.
        migrate: Create the tables.
        reuse: Take one whose tables are there, and leave it to other tests of this name, because they change only rows.
    """
    with _address(engine, folder, reuse=reuse) as (url, new):
        settings = _settings(engine, url)
        replaced = connections.settings.get(alias)
        close_connection(alias)
        connections.settings[alias] = settings
        join.forget_written()
        try:
            if migrate and new:
                call_command("migrate", "sessionsight_outbox", database=alias, verbosity=0)
            yield alias
        finally:
            close_connection(alias)
            del connections.settings[alias]
            if replaced is not None:
                connections.settings[alias] = replaced
            join.forget_written()


def close_connection(alias: str) -> None:
    """Close this thread's connection, and forget it with its settings."""
    if hasattr(connections._connections, alias):  # type: ignore[attr-defined]
        BaseDatabaseWrapper.close(connections[alias])  # SQLite's own ignores databases in memory
        del connections[alias]


def outbox_store(alias: str = "outbox", **options: Any) -> DjangoStore:
    return DjangoStore(alias, DeliveryOptions(**options), ThrottledLogger(), clock=RunningClock(), timeout=20.0)


def outbox_spool(alias: str, *lanes: str, **options: Any) -> DurableSpool:
    """A spool with lanes over an outbox. Its timeout is long."""
    chosen, clock = DeliveryOptions(**{"spool_timeout": 20.0, **options}), RunningClock()
    spool = DurableSpool(
        DjangoStore(alias, chosen, ThrottledLogger(), clock=clock, timeout=20.0), chosen, ThrottledLogger(), clock=clock
    )
    for lane in lanes:
        spool.lane(lane)
    return spool


def rows(alias: str, table: str) -> int:
    """How many rows a table of the outbox has."""
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM sessionsight_{table}")
        return int(cursor.fetchone()[0])


@contextmanager
def _address(engine: str, folder: Path, *, reuse: str) -> Iterator[tuple[str, bool]]:
    """The URL of a database, and whether it is a new one."""
    if engine == "sqlite_orm":
        yield str(folder / f"{uuid4().hex}.sqlite3"), True
    elif reuse:
        with emptied_database(engine, reuse) as (url, new):
            yield url, new
    else:
        with empty_database(engine) as url:
            yield url, True


def _settings(engine: str, address: str) -> dict[str, Any]:
    defaults = {**connections.settings["default"], "TEST": connections.settings["default"]["TEST"]}
    if engine == "sqlite_orm":
        return {**defaults, "ENGINE": "django.db.backends.sqlite3", "NAME": address, "OPTIONS": {"timeout": 20}}
    if engine == "mariadb" and not find_spec("MySQLdb"):  # mysqlclient, which the row `drivers` of noxfile.py installs
        pymysql.install_as_MySQLdb()
    url = urlsplit(address)
    return {
        **defaults,
        "ENGINE": f"django.db.backends.{'postgresql' if engine == 'postgresql' else 'mysql'}",
        "NAME": url.path.removeprefix("/"),
        "HOST": url.hostname,
        "PORT": str(url.port or ""),
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "OPTIONS": {},
    }
