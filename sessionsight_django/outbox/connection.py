"""The database connection that only the outbox uses."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any

from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections
from django.db.utils import Error

from sessionsight.sql_store.connection import CONNECT_TIMEOUT, KEEPALIVES, READ_TIMEOUT, OwnConnection
from sessionsight.sql_store.dialect import store_error
from sessionsight.stores import StoreUnavailable

__all__ = ["mapped_errors", "own_connection"]

_MISSING = "the tables of sessionsight_django.outbox are missing: run manage.py migrate"


def own_connection(alias: str) -> OwnConnection:
    """Return a connection of the store's own to a database of `DATABASES`."""
    return OwnConnection(partial(_connect, alias), mapped_errors)


def _connect(alias: str) -> Any:
    """Return a connection that works behind a pooler of transactions, and that any thread may use."""
    connection: Any = connections.create_connection(alias).copy()
    settings = connection.settings_dict
    settings["CONN_MAX_AGE"], settings["CONN_HEALTH_CHECKS"], settings["AUTOCOMMIT"] = None, False, True
    options = settings["OPTIONS"] = dict(settings.get("OPTIONS") or {})
    options.pop("pool", None)
    if connection.vendor != "sqlite":
        options.setdefault("connect_timeout", CONNECT_TIMEOUT)
    if connection.vendor == "postgresql":
        options.update(KEEPALIVES | options)
    if connection.vendor == "mysql":
        options["isolation_level"] = "read committed"
        options.setdefault("read_timeout", READ_TIMEOUT)
    connection.queries_log = deque(maxlen=0)  # nobody reads what DEBUG would collect there
    connection.inc_thread_sharing()
    connection.ensure_connection()
    return connection


@contextlib.contextmanager
def mapped_errors(*, committing: bool = False) -> Iterator[None]:
    """Raise errors of the database as errors of a store.

    Args:
        committing: The block may have had its effect although the connection was lost.
    """
    try:
        yield
    except SynchronousOnlyOperation as error:
        raise StoreUnavailable("the database cannot be used on an event loop") from error
    except Error as error:
        raise store_error(error.__cause__, str(error).strip(), committing=committing, missing=_MISSING) from error
