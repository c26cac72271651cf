"""Transactions on a SQL store's own connection, which stay open while a test does something else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sessionsight.sql_store.connection import OwnConnection

__all__ = ["transaction"]


@contextmanager
def transaction(own: OwnConnection, timeout: float = 1.0) -> Iterator[Any]:
    """A transaction on this thread, with a cursor. No other thread may use the connection meanwhile."""
    with own._own_worker().transaction(timeout, durable=True) as cursor:
        yield cursor
