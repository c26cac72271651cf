"""The store of `spool="sqlalchemy:<URL>"`."""

from __future__ import annotations

from typing import Any

from sessionsight.log import ThrottledLogger
from sessionsight.sql_store.store import SqlStore
from sessionsight.sqlalchemy.connection import database_url, own_connection
from sessionsight.stores import DeliveryOptions

__all__ = ["SqlAlchemyStore"]


class SqlAlchemyStore(SqlStore):
    """A `Store` in a database that SQLAlchemy connects to, by a connection of its own.

    What sessions write within their transactions, `sessionsight.sqlalchemy.outbox` writes.

    Args:
        name: The setting without its password.
        url: The URL of the database.
        options: Bounds and time limits.
        logger: For records that could not be written.
        **others: As for `SqlStore`.

    Raises:
        ConfigurationError: The URL cannot be used.
    """

    def __init__(self, name: str, url: str, options: DeliveryOptions, logger: ThrottledLogger, **others: Any) -> None:
        super().__init__(name, own_connection(database_url(name, url)), options, logger, **others)
