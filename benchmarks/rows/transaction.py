"""A transaction of a Django project that inserts an order, bare and with the capture of an event for two destinations.

Both take turns, so that the machine's speed affects both, and the ratio more than the times.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import pytest

from benchmarks.isolated import hand_over
from benchmarks.table import Row
from benchmarks.vendors import saytics, signal
from benchmarks.workload import EVENT, PROPERTIES

KINDS = {"postgresql": "PostgreSQL", "mariadb": "MariaDB"}
NOBODY = "http://127.0.0.1:9"
ROUNDS = 3000
WARM_UP = 100
AIM = 1.15


def measure(kind: str) -> list[Row]:
    from tests.adapters.outbox_databases import outbox_database, rows  # isort: skip  # sets Django up

    from django.db import connection, transaction

    from sessionsight import Client, Settings
    from sessionsight_django import clients

    def order() -> None:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO orders (name) VALUES (%s)", ["ord_1"])

    def bare() -> None:
        with transaction.atomic():
            order()

    def captured() -> None:
        with transaction.atomic():
            order()
            analytics.capture(EVENT, PROPERTIES)

    with TemporaryDirectory(prefix="sessionsight-bench-") as folder, outbox_database(kind, Path(folder), "default"):
        key = "serial" if kind == "postgresql" else "integer AUTO_INCREMENT"
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE orders (id {key} PRIMARY KEY, name varchar(50))")
        destinations = {**signal(NOBODY), **saytics(NOBODY)}
        client = Client(Settings.from_mapping({"destinations": destinations, "spool": "django", "delivery": "relay"}))
        client.join_transaction = clients._join_transaction(client.settings)
        analytics = client.bind(user_id="user_1")
        without, with_capture = in_turns(bare, captured)
        client.shutdown(0)
        if rows("default", "inbox") != ROUNDS + WARM_UP:
            raise RuntimeError("records are missing")
    what, ratio = f"Django on {KINDS[kind]}, a transaction", with_capture / without
    return [
        Row(what=f"{what}: bare", figure=without * 1e6, unit="µs"),
        Row(what=f"{what} with a capture in it", figure=with_capture * 1e6, unit="µs"),
        Row(what=f"{what} with a capture in it, over the bare one", figure=ratio, unit="times", aim=AIM),
    ]


def in_turns(one: Callable[[], None], other: Callable[[], None]) -> tuple[float, float]:
    """Return the median duration of each, in seconds."""
    durations: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS + WARM_UP):
        for run, found in zip((one, other), durations, strict=True):
            began = time.perf_counter()
            run()
            if number >= WARM_UP:
                found.append(time.perf_counter() - began)
    return median(durations[0]), median(durations[1])


if __name__ == "__main__":
    try:
        hand_over(measure(sys.argv[1]))
    except pytest.skip.Exception as reason:
        print(f" skipped: {reason.msg}", end="", file=sys.stderr)
        hand_over([])
