"""Transactions on a SQL store's own connection: open while a test does something else, or observed at their end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sessionsight.sql_store.connection import OwnConnection

__all__ = ["observe", "transaction"]

T = TypeVar("T")


@contextmanager
def transaction(own: OwnConnection, timeout: float = 1.0) -> Iterator[Any]:
    """A transaction on this thread, with a cursor. No other thread may use the connection meanwhile."""
    with own._own_worker().transaction(timeout, durable=True) as cursor:
        yield cursor


def observe(own: OwnConnection, query: str) -> list[Any]:
    """Run a query at the end of each later transaction, and return the list to which its rows are added."""
    rows: list[Any] = []
    run = own.run

    def run_observed(step: Callable[[Any], T], *args: Any, **options: Any) -> T:
        def observed(cursor: Any) -> T:
            result = step(cursor)
            cursor.execute(query)
            rows.append(tuple(cursor.fetchone()))
            return result

        return run(observed, *args, **options)

    own.run = run_observed  # type: ignore[method-assign]
    return rows
