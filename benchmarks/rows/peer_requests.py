"""Processor time of a request with one capture, by all contenders in turn, over the same bare app: one framework.

Ours is the middleware with one capture, context and all; theirs is a call in the view.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module

from benchmarks.apps.kinds import nothing
from benchmarks.contenders.base import MARKERS, NAMES, contender, deliver
from benchmarks.delivered import deliver as deliver_ours
from benchmarks.isolated import hand_over
from benchmarks.rows.requests import AIMS, REQUESTS, capture
from benchmarks.server import counted, running
from benchmarks.table import Row
from benchmarks.timing import Serve, processor_over
from benchmarks.vendors import analyse

ROUNDS = 10


def measure(framework: str) -> list[Row]:
    app = import_module(f"benchmarks.apps.{framework}")
    with ExitStack() as stack:
        urls = {name: stack.enter_context(running(marker=MARKERS[name])) for name in NAMES}
        bare: Serve = app.bare(nothing)
        works: dict[str, Callable[[], object]] = {"bare": lambda: bare(REQUESTS)}
        for name, url in urls.items():
            works[name] = ours(framework, url) if name == "sessionsight" else theirs(framework, name, url)
        totals = processor_over("bare", works, rounds=ROUNDS)
    microseconds = {name: total / REQUESTS * 1e6 for name, total in totals.items()}
    cheapest = min(total for name, total in microseconds.items() if name != "sessionsight")
    rows = [
        Row(what=f"{framework}, one capture: total", figure=total, unit="µs", column=name)
        for name, total in microseconds.items()
    ]
    times = cheapest / microseconds["sessionsight"]
    aim = AIMS[framework].below_peers
    what = f"{framework}, one capture: cheapest other over sessionsight"
    return [*rows, Row(what=what, figure=times, unit="times", aim=aim, at_least=True, column="sessionsight")]


def ours(framework: str, url: str) -> Callable[[], object]:
    served = import_module(f"benchmarks.apps.{framework}").ours(analyse(url), capture)

    def work() -> None:
        before = counted(url)
        served.serve(REQUESTS)
        deliver_ours(served.client)
        if counted(url) != before + REQUESTS:
            raise RuntimeError(f"not everything was delivered: {served.client.stats()}")

    return work


def theirs(framework: str, name: str, url: str) -> Callable[[], object]:
    library = contender(name, url, queue=10 * REQUESTS)
    serve: Serve = import_module(f"benchmarks.apps.{framework}").bare(lambda: library.capture("user_1"))

    def work() -> None:
        before = counted(url)
        serve(REQUESTS)
        deliver(library, url, before + REQUESTS)

    return work


if __name__ == "__main__":
    hand_over(measure(sys.argv[1]))
    sys.stdout.flush()
    os._exit(0)  # not the ordinary exit, at which some wait for their next interval
