"""Records wait for the end of the database transaction in which they were captured.

Django calls back after a commit and says nothing of a rollback: it lets go of the callback. Nothing else holds what we
give it, so that its finalizer is the word. Only connections that are there are looked at; none is made or opened.
"""

from __future__ import annotations

import sys
from itertools import count
from typing import Any
from weakref import ref

from django.db import DEFAULT_DB_ALIAS, connections

from sessionsight.capture.interfaces import Holder
from sessionsight.capture.records import Record
from sessionsight.errors import InvalidEventError, describe, did_you_mean
from sessionsight.test_mode import test_mode

__all__ = ["catch_up", "hold"]


def hold(holder: Holder, record: Record, using: str | None) -> bool:
    """Keep a record that was captured inside `atomic()` until the commit; a `sessionsight.capture.interfaces.Hold`.

    Args:
        holder: Is told of the commit or the rollback.
        record: What was captured.
        using: The alias of the database; Django's default one for None.

    Raises:
        InvalidEventError: There is no such database.
    """
    if using is not None and using not in connections.settings:
        raise InvalidEventError(
            f"using: there is no database {describe(using)} in DATABASES; {did_you_mean(using, connections.settings)}"
        )
    # The storage itself: `connections[alias]` would make a connection object for each thread that captures.
    made = connections._connections  # type: ignore[attr-defined]  # noqa: SLF001
    connection = getattr(made, using or DEFAULT_DB_ALIAS, None)
    if connection is None or not connection.in_atomic_block:
        return False
    catch_up()  # so that records come in the order that they have without a `TestCase`
    block = _outermost(connection)
    if block is None:
        return False
    held = _Held(holder, record, connection, block)
    connection.on_commit(held.commit, robust=True)
    if connection.atomic_blocks[0] is not block:
        number = next(_numbers)
        _in_tests[number] = ref(held, lambda _: _in_tests.pop(number, None))
    return True


def catch_up() -> None:
    """Settle what was captured inside the transactions of Django's `TestCase`, which are never committed.

    There a record counts as soon as the app's own block has ended well.
    """
    if _in_tests:  # each request asks
        for reference in list(_in_tests.values()):
            if (held := reference()) is not None:
                held.look()


class _Held:
    """A record that waits. Django's list of callbacks alone keeps it alive."""

    __slots__ = ("__weakref__", "_block", "_connection", "_holder", "_record", "_unsure")

    def __init__(self, holder: Holder, record: Record, connection: Any, block: Any) -> None:
        self._holder = holder
        self._record = record
        self._connection = connection
        self._block = block
        self._unsure = connection.run_commit_hooks_on_set_autocommit_on

    def commit(self) -> None:
        """The transaction was committed."""
        self._holder.settle(self._record, kept=True)

    def look(self) -> None:
        """Find out whether the block is over. Had it been rolled back, this would not be here any more."""
        if self._block not in self._connection.atomic_blocks:
            # A block without a savepoint of its own leaves its rollback to the one around it.
            self._holder.settle(self._record, kept=not self._connection.needs_rollback)

    def __del__(self) -> None:
        if not sys.is_finalizing():
            # Somebody's callback that raises makes Django forget the later ones, although it has committed. It sets
            # this at the commit, and back when all have run: when it was set before, it tells nothing.
            committed = self._connection.run_commit_hooks_on_set_autocommit_on and not self._unsure
            self._holder.settle(self._record, kept=committed)


_in_tests: dict[int, ref[_Held]] = {}
_numbers = count()


def _outermost(connection: Any) -> Any:
    """The outermost block of the app's own; None when there are but those of a `TestCase`."""
    return next((block for block in connection.atomic_blocks if not block._from_testcase), None)  # noqa: SLF001


test_mode.add_sync_hook(catch_up)
