"""From capture to the local server: records a second, and the processor time of all threads.

Each record is captured by itself, outside a request, under one of a hundred visitors' contexts that were bound
before, as fast as one thread can; the clock stops when the last one is delivered.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from benchmarks.delivered import check_delivered, deliver
from benchmarks.isolated import hand_over
from benchmarks.server import running
from benchmarks.table import Row
from benchmarks.timing import Used, used
from benchmarks.vendors import Destinations, analyse, saytics, sessionsight, signal
from benchmarks.workload import EVENT, PROPERTIES, environ
from sessionsight import Analytics, Client, Settings

ROUNDS = 3


class Case(NamedTuple):
    """One vendor in one configuration."""

    what: str
    destinations: Callable[[str], Destinations]
    records: int
    aims: tuple[float | None, float | None] = (None, None)
    """Records a second, and processor time of one record in microseconds."""


CASES = {
    "analyse": Case("analyse, 100 a call", analyse, 50_000, aims=(100_000, 10)),
    "saytics": Case("saytics, 100 a call", saytics, 20_000),
    "signal": Case("signal, 20 a call, compressed", signal, 20_000),
    "gzip-500": Case("signal, 500 a call, compressed", lambda url: signal(url, batch_size=500), 50_000),
    "sessionsight": Case("sessionsight's goals, 1 a call", sessionsight, 3_000, aims=(2_500, 400)),
}


def measure(name: str) -> list[Row]:
    case = CASES[name]
    with running() as url:
        queue = {"queue_records": case.records + 1, "queue_bytes": 1 << 30}
        client = Client(Settings.from_mapping({"destinations": case.destinations(url), **queue}))
        visitors = [client.bind(client.for_request(environ(number)).context) for number in range(100)]
        call = increment if name == "sessionsight" else capture

        def work(records: int) -> None:
            for number in range(records):
                call(visitors[number % 100])
            deliver(client)

        work(1_000)
        rounds = [used(lambda: work(case.records)) for _ in range(ROUNDS)]
        check_delivered(client, 1_000 + ROUNDS * case.records)
    return rows(case, rounds)


def capture(analytics: Analytics) -> None:
    analytics.capture(EVENT, PROPERTIES)


def increment(analytics: Analytics) -> None:
    analytics.goals.increment("monthly-revenue", 49)


def rows(case: Case, rounds: list[Used]) -> list[Row]:
    rate, processor = case.aims
    microseconds = 1e6 / case.records
    return [
        Row(
            what=f"end to end, {case.what}",
            figure=case.records / median(one.elapsed for one in rounds),
            unit="records/s",
            aim=rate,
            at_least=True,
        ),
        Row(
            what=f"end to end, {case.what}: processor time of a record",
            figure=median(one.processor for one in rounds) * microseconds,
            unit="µs",
            aim=processor,
        ),
        Row(
            what=f"end to end, {case.what}: of that in other threads",
            figure=median(one.processor - one.caller for one in rounds) * microseconds,
            unit="µs",
        ),
    ]


if __name__ == "__main__":
    hand_over(measure(sys.argv[1]))
