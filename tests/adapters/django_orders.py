"""A shop that keeps its orders in a database, with views whose transactions end in different ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import django_project  # noqa: F401  # sets Django up

# isort: split
from django.db import connection, connections, transaction
from django.http import HttpRequest, HttpResponse

from sessionsight.capture.records import DropReason
from sessionsight_django.transactions import defer_until_commit
from tests.adapters.recording import Recorder


class Refund(Exception):
    """Rolls back."""


def recording(**settings: Any) -> Recorder:
    """A client as Django's adapter makes it."""
    recorder = Recorder(**settings)
    recorder.client.defer_record = defer_until_commit
    return recorder


@contextmanager
def two_databases(folder: Path) -> Iterator[None]:
    """Databases in files, `default` and `other`."""
    default = connections.settings["default"]
    connection.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(default, "NAME", str(folder / "default.sqlite3"))
        patch.setitem(connections.settings, "other", {**default, "NAME": str(folder / "other.sqlite3")})
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
            cursor.execute("CREATE TABLE lines (order_id REFERENCES orders (id) DEFERRABLE INITIALLY DEFERRED)")
        yield
        for alias in ("default", "other"):
            connections[alias].close()
        del connections["other"]


def order() -> None:
    """Write an order down."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO orders SELECT coalesce(max(id), 0) + 1 FROM orders")


def orders() -> int:
    """How many orders there are."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM orders")
        return int(cursor.fetchone()[0])


@contextmanager
def refunded(*, savepoint: bool = True) -> Iterator[None]:
    """A transaction that is rolled back in the end."""
    with suppress(Refund), transaction.atomic(savepoint=savepoint):
        yield
        raise Refund


def rolled_back(recorder: Recorder, lane: str = "analyse") -> int:
    """How many records the lane's ledger says were rolled back."""
    stats = recorder.client.stats().lanes[lane]
    assert stats.balanced
    return stats.dropped.get(DropReason.ROLLED_BACK, 0)


def view_of(function: Callable[[Any], None]) -> Any:
    """A view under the function's name, which is given the request's analytics."""

    def view(request: HttpRequest) -> HttpResponse:
        function(request.analytics)  # type: ignore[attr-defined]
        return HttpResponse("ok")

    view.__name__ = function.__name__
    return view


@view_of
def buy(analytics: Any) -> None:
    analytics.capture("before")
    with transaction.atomic():
        order()
        analytics.capture("inside")
    analytics.capture("after")


@view_of
def give_back(analytics: Any) -> None:
    analytics.capture("before")
    with refunded():
        order()
        analytics.capture("inside")
    analytics.capture("after")


@view_of
def change_line(analytics: Any) -> None:
    with transaction.atomic():
        analytics.capture("outer")
        with transaction.atomic():
            analytics.capture("kept")
        with refunded():
            analytics.capture("line")
            with transaction.atomic():
                analytics.capture("line_of_line")
        analytics.capture("instead")


@view_of
def fail_in_the_end(analytics: Any) -> None:
    with refunded(), transaction.atomic():
        analytics.capture("released")
