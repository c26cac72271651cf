"""One contender's column: the same event, delivered in the background to the same local server."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from itertools import count
from statistics import median

from benchmarks.apps.kinds import nothing
from benchmarks.contenders.base import IMPORTS, Contender, contender
from benchmarks.heap import allocated, resident
from benchmarks.isolated import hand_over
from benchmarks.rows.imports import cost
from benchmarks.rows.requests import AIMS, capture
from benchmarks.server import running
from benchmarks.table import Row
from benchmarks.timing import burst, overhead, paced, used
from benchmarks.vendors import analyse
from benchmarks.workload import visitor

RATE = 2_000
EVENTS = 20_000
ROUNDS = 3


def calls(name: str) -> Iterator[Row]:
    """The price of a call."""
    with running() as url:
        library = contender(name, url, queue=3 * EVENTS)
        library.capture("user_0")
        library.flush()
        numbers = count()

        def user() -> str:
            return f"user_{next(numbers)}"

        fast = burst(user, library.capture, _nothing, calls=3_000)
        library.flush()
        steady = paced(user, library.capture, _nothing, rate=RATE, calls=4 * RATE)
        library.flush()
    yield Row(what="capture call in a burst, p50", figure=fast.p50, unit="µs")
    yield Row(what="capture call in a burst, p99", figure=fast.p99, unit="µs")
    yield Row(what=f"capture call at {RATE:,}/s, p50", figure=steady.p50, unit="µs")
    yield Row(what=f"capture call at {RATE:,}/s, p99", figure=steady.p99, unit="µs")


def requests(name: str, framework: str) -> Iterator[Row]:
    """A request with one capture in its view: ours by its middleware, context and all, theirs by a call."""
    app = import_module(f"benchmarks.apps.{framework}")
    with running() as url:
        bare = app.bare(nothing)
        library = contender(name, url, queue=100_000)
        if name == "sessionsight":
            served, settle = app.ours(analyse(url), capture)
        else:
            served, settle = app.bare(lambda: library.capture("user_1")), library.settle
        figure = overhead(bare, served, settle, pairs=150)
        library.flush()
    yield Row(what=f"request over bare {framework}, one capture", figure=figure, unit="µs")


def throughput(name: str) -> Iterator[Row]:
    """As fast as one thread captures, until everything is delivered."""
    with running() as url:
        library = contender(name, url, queue=2 * EVENTS)

        def work(events: int) -> None:
            for number in range(events):
                library.capture(f"user_{number}")
            library.flush()

        work(500)
        rounds = [used(lambda: work(EVENTS)) for _ in range(ROUNDS)]
    yield Row(what="end to end", figure=EVENTS / median(one.elapsed for one in rounds), unit="records/s")
    processor = median(one.processor for one in rounds)
    yield Row(what="end to end: processor per 100,000", figure=processor * 100_000 / EVENTS, unit="s")


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


GROUPS = ("calls", *AIMS, "throughput", "memory", "imports")


def measure(name: str, group: str) -> list[Row]:
    return list(requests(name, group) if group in AIMS else globals()[group](name))


if __name__ == "__main__":
    hand_over(measure(*sys.argv[1:]))
    sys.stdout.flush()
    os._exit(0)  # not the ordinary exit, at which some wait for a vendor that hangs
