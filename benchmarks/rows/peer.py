"""One contender's column: the same event, delivered in the background to the same local server."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from itertools import count
from statistics import median

from benchmarks.contenders.base import IMPORTS, MARKERS, Contender, contender, deliver
from benchmarks.heap import allocated, resident
from benchmarks.isolated import hand_over
from benchmarks.rows.imports import cost
from benchmarks.server import counted, running
from benchmarks.table import Row
from benchmarks.timing import burst, paced, used
from benchmarks.workload import visitor

RATE = 2_000
EVENTS = 20_000
ROUNDS = 3


def calls(name: str) -> Iterator[Row]:
    """The price of a call."""
    with running(marker=MARKERS[name]) as url:
        library = contender(name, url, queue=3 * EVENTS)
        library.capture("user_0")
        library.flush()
        numbers = count()

        def user() -> str:
            return f"user_{next(numbers)}"

        fast = burst(user, library.capture, _nothing, calls=3_000)
        library.flush()
        steady = paced(user, library.capture, _nothing, rate=RATE, calls=4 * RATE)
        deliver(library, url, 1 + next(numbers))
    yield Row(what="capture call in a burst, p50", figure=fast.p50, unit="µs")
    yield Row(what="capture call in a burst, p99", figure=fast.p99, unit="µs")
    yield Row(what=f"capture call at {RATE:,}/s, p50", figure=steady.p50, unit="µs")
    yield Row(what=f"capture call at {RATE:,}/s, p99", figure=steady.p99, unit="µs")


def throughput(name: str) -> Iterator[Row]:
    """As fast as one thread captures, until everything is delivered."""
    with running(marker=MARKERS[name]) as url:
        library = contender(name, url, queue=2 * EVENTS)

        def work(events: int) -> None:
            before = counted(url)
            for number in range(events):
                library.capture(f"user_{number}")
            deliver(library, url, before + events)

        work(500)
        rounds = [used(lambda: work(EVENTS)) for _ in range(ROUNDS)]
    yield Row(what="end to end", figure=EVENTS / median(one.elapsed for one in rounds), unit="records/s")
    processor = median(one.processor for one in rounds)
    yield Row(what="end to end: processor time of a record", figure=processor * 1e6 / EVENTS, unit="µs")


def memory(name: str) -> Iterator[Row]:
    """Memory of queued records while the vendor hangs."""
    logging.disable()
    with running(hang=True) as url:

        def fill(library: Contender, numbers: range) -> None:
            for number in numbers:
                library.capture_visit(visitor(number))

        one, another = (contender(name, url, queue=2 * EVENTS) for _ in range(2))
        fill(one, range(500))
        fill(another, range(500))
        grown = resident(lambda: fill(one, range(500, 500 + EVENTS)))
        held = allocated(lambda: fill(another, range(30_000, 30_000 + EVENTS)))
    yield Row(what="queued record with its context, allocated", figure=held / EVENTS, unit="bytes")
    if grown is not None:
        yield Row(what="queued record with its context, resident", figure=grown / EVENTS, unit="bytes")


def imports(name: str) -> Iterator[Row]:
    yield Row(what="import, all that delivery needs", figure=cost(IMPORTS[name]), unit="ms")


def _nothing(_: object) -> None:
    pass


GROUPS = ("calls", "throughput", "memory", "imports")


def measure(name: str, group: str) -> list[Row]:
    return list(globals()[group](name))


if __name__ == "__main__":
    hand_over(measure(*sys.argv[1:]))
    sys.stdout.flush()
    os._exit(0)  # not the ordinary exit, at which some wait for a vendor that hangs
