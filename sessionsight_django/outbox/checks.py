"""Checks of a spool in the app's database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.db import connections, router
from django.db.migrations.executor import MigrationExecutor
from django.db.utils import Error

from sessionsight.diagnosis import Finding
from sessionsight.diagnosis.sql_database import dead_rows, old_transaction, waiting_records

__all__ = ["database_findings", "outbox_findings"]

_APP = "sessionsight_django.outbox"
_LABEL = "sessionsight_outbox"


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
        found = {
            "W010": waiting_records(cursor, relay="manage.py sessionsight relay"),
            "W011": old_transaction(cursor),
            "W012": dead_rows(cursor),
            "W013": _pooler(cursor),
        }
    yield from ((number, finding) for number, finding in found.items() if finding is not None)


def _pooler(cursor: Any) -> Finding | None:
    """Warn if Django is not set up for the pooler between it and PostgreSQL, which shares sessions."""
    connection = cursor.db
    if connection.vendor != "postgresql":
        return None
    cursor.execute("SELECT pg_backend_pid()")
    [server_process] = cursor.fetchone()
    if connection.connection.info.backend_pid == server_process:  # a pooler makes up its own
        return None
    settings = connection.settings_dict
    wrong = [] if settings.get("DISABLE_SERVER_SIDE_CURSORS") else ["'DISABLE_SERVER_SIDE_CURSORS': True"]
    if (settings.get("OPTIONS") or {}).get("prepare_threshold") is not None:
        wrong.append("no prepare_threshold in OPTIONS")
    if not wrong:
        return None
    message = f"is reached through a pooler, such as PgBouncer, but DATABASES[{connection.alias!r}] is set up for none"
    hint = f"if it pools transactions: {' and '.join(wrong)}; relays need nothing else"
    return Finding(level="warning", subject="spool", message=message, hint=hint)
