"""Databases with the outbox's tables, on real servers, and durable spools in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
from tests.support.brokers import need_mariadb, need_postgresql
from tests.support.clock import RunningClock

ENGINES = ("postgresql", "mariadb", "sqlite_orm")
TABLES = ("inbox", "queue", "dead_letter", "key", "batch", "count", "owner")


@contextmanager
def outbox_database(engine: str, folder: Path, alias: str = "outbox", *, migrate: bool = True) -> Iterator[str]:
    """A database of this test's own under an alias, with the tables of the outbox."""
    name = f"sessionsight_{uuid4().hex}"
    settings, admin_settings = _settings(engine, folder, name)
    replaced = connections.settings.get(alias)
    close_connection(alias)
    admin = f"admin_of_{alias}"
    connections.settings[admin] = admin_settings
    if engine != "sqlite_orm":
        _execute(admin, f"CREATE DATABASE {name}")
    connections.settings[alias] = settings
    join.forget_written()
    try:
        if migrate:
            call_command("migrate", "sessionsight_outbox", database=alias, verbosity=0)
        yield alias
    finally:
        close_connection(alias)
        if engine == "postgresql":
            _execute(admin, f"DROP DATABASE {name} WITH (FORCE)")
        elif engine == "mariadb":
            _execute(admin, f"DROP DATABASE {name}")
        close_connection(admin)
        del connections.settings[admin]
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


def _execute(alias: str, statement: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute(statement)


def _settings(engine: str, folder: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of a new database, and of one from which it is created."""
    defaults = {**connections.settings["default"], "TEST": connections.settings["default"]["TEST"]}
    if engine == "sqlite_orm":
        file = {**defaults, "ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / f"{name}.sqlite3")}
        file["OPTIONS"] = {"timeout": 20}
        return file, file
    url = urlsplit(need_postgresql() if engine == "postgresql" else need_mariadb())
    if engine == "mariadb":
        pymysql.install_as_MySQLdb()
    server = {
        **defaults,
        "ENGINE": f"django.db.backends.{'postgresql' if engine == 'postgresql' else 'mysql'}",
        "HOST": url.hostname,
        "PORT": str(url.port or ""),
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "OPTIONS": {},
    }
    return {**server, "NAME": name}, {**server, "NAME": url.path.removeprefix("/")}
