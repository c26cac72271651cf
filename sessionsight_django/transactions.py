"""Defers records that are captured inside a database transaction until it has ended.

Django calls back after a commit, but not after a rollback: it drops the callback without a signal. A rollback is
therefore detected in the finalizer of the callback object, to which nothing else refers. Only existing connections are
checked; none is made or opened.
"""

from __future__ import annotations

import sys
from itertools import count
from typing import Any
from weakref import ref

from django.db import DEFAULT_DB_ALIAS, connections

from sessionsight import InvalidEventError
from sessionsight.adapters import Record, TransactionListener, describe, did_you_mean, test_mode

__all__ = ["defer_until_commit", "existing_connection", "outermost_block", "sync_test_transactions"]


def defer_until_commit(listener: TransactionListener, record: Record, using: str | None) -> bool:
    """Defer a record that was captured inside `atomic()` until the commit; a `sessionsight.adapters.DeferRecord`.

    Args:
        listener: Called after the commit or the rollback.
        record: The captured record.
        using: The alias of the database; Django's default one for None.

    Raises:
        InvalidEventError: The project has no database with this alias.
    """
    if using is not None and using not in connections.settings:
        raise InvalidEventError(
            f"using: DATABASES does not contain {describe(using)}; {did_you_mean(using, connections.settings)}"
        )
    connection = existing_connection(using or DEFAULT_DB_ALIAS)
    if connection is None or not connection.in_atomic_block:
        return False
    sync_test_transactions()  # keeps the order that records have without a `TestCase`
    block = outermost_block(connection)
    if block is None:
        return False
    deferred = _DeferredRecord(listener, record, connection, block)
    connection.on_commit(deferred.commit, robust=True)
    if connection.atomic_blocks[0] is not block:
        number = next(_numbers)
        _in_tests[number] = ref(deferred, lambda _: _in_tests.pop(number, None))
    return True


def existing_connection(alias: str) -> Any:
    """Return this thread's connection to a database, or None if it has none."""
    # The storage itself: `connections[alias]` would make a connection object for each thread that captures.
    return getattr(connections._connections, alias, None)  # type: ignore[attr-defined]  # noqa: SLF001


def outermost_block(connection: Any) -> Any:
    """Return the outermost block of the app's own, or None if there are only those of a `TestCase`."""
    return next((block for block in connection.atomic_blocks if not block._from_testcase), None)  # noqa: SLF001


def sync_test_transactions() -> None:
    """End the deferral of records captured inside the transactions of Django's `TestCase`, which never commit.

    There a record counts as soon as the app's own block has ended without an error.
    """
    if _in_tests:  # called for each request
        for reference in list(_in_tests.values()):
            if (deferred := reference()) is not None:
                deferred.check()


class _DeferredRecord:
    """A record that waits for its transaction. Only Django's list of callbacks keeps it alive."""

    __slots__ = ("__weakref__", "_block", "_connection", "_listener", "_record", "_was_committing")

    def __init__(self, listener: TransactionListener, record: Record, connection: Any, block: Any) -> None:
        self._listener = listener
        self._record = record
        self._connection = connection
        self._block = block
        self._was_committing = connection.run_commit_hooks_on_set_autocommit_on

    def commit(self) -> None:
        """Report the commit."""
        self._listener.transaction_ended(self._record, committed=True)

    def check(self) -> None:
        """Report a commit if the block has ended. After a rollback this object would no longer exist."""
        if self._block not in self._connection.atomic_blocks:
            # A block without a savepoint of its own leaves its rollback to the one around it.
            self._listener.transaction_ended(self._record, committed=not self._connection.needs_rollback)

    def __del__(self) -> None:
        if not sys.is_finalizing():
            # A callback of the site that raises makes Django drop the later ones, although it has committed. Django
            # sets this flag at the commit and clears it after all callbacks; if it was set before, it means nothing.
            committed = self._connection.run_commit_hooks_on_set_autocommit_on and not self._was_committing
            self._listener.transaction_ended(self._record, committed=committed)


_in_tests: dict[int, ref[_DeferredRecord]] = {}
_numbers = count()


test_mode.add_sync_hook(sync_test_transactions)
