"""Checks of a spool in the app's database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.db import connections, router
from django.db.migrations.executor import MigrationExecutor
from django.db.utils import Error

from sessionsight.diagnosis import Finding
from sessionsight.sql_store.dialect import now

__all__ = ["database_findings", "outbox_findings"]

_APP = "sessionsight_django.outbox"
_LABEL = "sessionsight_outbox"
_MAX_WAITING = 300.0  # seconds
_MAX_TRANSACTION = 3600.0


def outbox_findings(alias: str | None) -> Iterator[tuple[str, Finding]]:
    """Check, without connecting, that the tables can be made in the spool's database.

    Args:
        alias: The alias of that database; None if the spool is in none.
    """
    if alias is None:
        return
    if not apps.is_installed(_APP):
        message = f"lacks {_APP}, which has the tables of the spool: records are kept in memory"
        hint = f"add {_APP!r} to INSTALLED_APPS, and run manage.py migrate"
        yield "W007", Finding(level="warning", subject="INSTALLED_APPS", message=message, hint=hint)
    elif not router.allow_migrate(alias, _LABEL):
        message = f"keep the tables of the spool out of the database {alias!r}: records are kept in memory"
        hint = f"allow migrations of {_LABEL!r} there, or name another database, such as spool='django:orders'"
        yield "W008", Finding(level="warning", subject="DATABASE_ROUTERS", message=message, hint=hint)


def database_findings(alias: str | None) -> Iterator[tuple[str, Finding]]:
    """Check, by a query, that the tables of the spool are there and up to date."""
    if alias is None or not apps.is_installed(_APP):
        return
    try:
        executor = MigrationExecutor(connections[alias])
        leaves = [node for node in executor.loader.graph.leaf_nodes() if node[0] == _LABEL]
        missing = [migration.name for migration, _ in executor.migration_plan(leaves)]
    except Error as error:
        message = f"the database {alias!r} cannot be read: {str(error).strip()}; records are kept in memory"
        yield "W009", Finding(level="warning", subject="spool", message=message, hint="check DATABASES")
        return
    if missing:
        message = f"lacks migrations in the database {alias!r} ({', '.join(missing)}): records are kept in memory"
        hint = f"run manage.py migrate --database {alias}"
        yield "W009", Finding(level="warning", subject="spool", message=message, hint=hint)
        return
    with connections[alias].cursor() as cursor:
        yield from _state_findings(cursor)


def _state_findings(cursor: Any) -> Iterator[tuple[str, Finding]]:
    """Check that relays keep up, and that PostgreSQL can remove the rows that they have deleted."""
    cursor.execute(f"SELECT {now(cursor.db)} - min(created_at) FROM sessionsight_inbox")
    [waiting] = cursor.fetchone()
    if waiting is not None and waiting > _MAX_WAITING:
        message = f"has records that no relay has taken in for {waiting / 60:.0f} minutes, and grows without a bound"
        hint = "run manage.py sessionsight relay"
        yield "W010", Finding(level="warning", subject="spool", message=message, hint=hint)
    if cursor.db.vendor != "postgresql":
        return
    cursor.execute(
        "SELECT max(extract(epoch from clock_timestamp() - xact_start)) FROM pg_stat_activity"
        " WHERE backend_xmin IS NOT NULL AND datname = current_database()"
    )
    [oldest] = cursor.fetchone()
    if oldest is not None and oldest > _MAX_TRANSACTION:
        message = f"slows down: a transaction of {oldest / 60:.0f} minutes keeps PostgreSQL from removing deleted rows"
        hint = "end it: see pg_stat_activity, and set idle_in_transaction_session_timeout"
        yield "W011", Finding(level="warning", subject="spool", message=message, hint=hint)
