"""A store in the app's own database, written within the app's transactions."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from sessionsight import ConfigurationError
from sessionsight.adapters import ThrottledLogger, describe, did_you_mean
from sessionsight.sql_store import inbox
from sessionsight.sql_store.dialect import is_conflict
from sessionsight.sql_store.store import SqlStore
from sessionsight.stores import DeliveryOptions
from sessionsight_django.outbox.connection import mapped_errors, own_connection
from sessionsight_django.outbox.join import OpenTransaction, idle_connection, joined_transaction

__all__ = ["DjangoStore", "check_alias"]


def check_alias(alias: str) -> None:
    """Check that the project has a database with this alias.

    Raises:
        ConfigurationError: It has not, or Django has no settings.
    """
    try:
        known = connections.settings
    except ImproperlyConfigured:  # its message leads away from ours
        raise ConfigurationError(
            "spool: a database of Django needs the settings of a project: set DJANGO_SETTINGS_MODULE, or name them by "
            "--django-settings"
        ) from None
    if alias not in known:
        raise ConfigurationError(f"spool: DATABASES does not contain {describe(alias)}; {did_you_mean(alias, known)}")


class DjangoStore(SqlStore):
    """A `Store` in a database of `DATABASES`.

    `enqueue` uses the connection of the code that captures, if that is open, and joins its transaction within
    `join_transaction`. All other methods use a connection of their own.

    Args:
        alias: The alias of the database.
        options: Bounds and time limits.
        logger: For records that could not be written.
        **others: As for `SqlStore`.

    Raises:
        ConfigurationError: The project has no database with this alias.
    """

    def __init__(self, alias: str, options: DeliveryOptions, logger: ThrottledLogger, **others: Any) -> None:
        check_alias(alias)
        super().__init__(f"django:{alias}", own_connection(alias), options, logger, **others)
        self._alias = alias

    @property
    def joins(self) -> bool:
        """True within `join_transaction`."""
        return joined_transaction() is not None

    def _add(self, row: tuple[str, bytes], timeout: float) -> None:
        if (joined := joined_transaction()) is not None:
            self._add_joined(joined, row)
        elif (connection := idle_connection(self._alias)) is not None:
            with mapped_errors(committing=True), connection.cursor() as cursor:
                inbox.insert(cursor, row)
        else:
            super()._add(row, timeout)

    def _add_joined(self, joined: OpenTransaction, row: tuple[str, bytes]) -> None:
        error = joined.write(partial(inbox.insert, columns=row))
        if error is not None and not is_conflict(error.__cause__):
            outcome = "it waits for the commit" if joined.failed else "the transaction cannot be committed"
            self._logger.log(
                logging.ERROR,
                f"spool {self.name}: a record could not be written in its transaction, so {outcome}: {error}",
                key="joined",
            )
