"""From capture to the local server: records a second, and the processor time of all threads.

Each record is captured by itself, outside a request, under one of a hundred visitors' contexts that were bound
before, as fast as one thread can; the clock stops when the last one is delivered.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

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
    aims: bool = False


CASES = {
    "plain-500": Case(
        "batches of 500, not compressed", lambda url: signal(url, batch_size=500, compression=False), 50_000, aims=True
    ),
    "gzip-500": Case("batches of 500, compressed", lambda url: signal(url, batch_size=500), 50_000, aims=True),
    "signal": Case("signal's default, 20 compressed", signal, 20_000),
    "saytics": Case("saytics' default, 100", saytics, 20_000),
    "analyse": Case("analyse's default, 100", analyse, 20_000),
    "sessionsight": Case("sessionsight's goals, 1 a call", sessionsight, 3_000),
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
            client.flush(60)

        work(1_000)
        rounds = [used(lambda: work(case.records)) for _ in range(ROUNDS)]
        [lane] = client.stats().lanes.values()
        if lane.delivered != 1_000 + ROUNDS * case.records:
            raise RuntimeError(f"not everything was delivered: {lane}")
    return rows(case, rounds)


def capture(analytics: Analytics) -> None:
    analytics.capture(EVENT, PROPERTIES)


def increment(analytics: Analytics) -> None:
    analytics.goals.increment("monthly-revenue", 49)


def rows(case: Case, rounds: list[Used]) -> list[Row]:
    lots = case.records / 100_000
    return [
        Row(
            what=f"end to end, {case.what}",
            figure=case.records / median(one.elapsed for one in rounds),
            unit="records/s",
            aim=100_000 if case.aims else None,
            at_least=True,
        ),
        Row(
            what=f"end to end, {case.what}: processor per 100,000",
            figure=median(one.processor for one in rounds) / lots,
            unit="s",
            aim=1.0 if case.aims else None,
        ),
        Row(
            what=f"end to end, {case.what}: of that in the lane",
            figure=median(one.processor - one.caller for one in rounds) / lots,
            unit="s",
        ),
    ]


if __name__ == "__main__":
    hand_over(measure(sys.argv[1]))
