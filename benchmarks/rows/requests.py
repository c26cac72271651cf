"""Cost of a request with sessionsight: one framework, against the bare app.

The total is the processor time of the whole process, delivery included: a thousand requests in a row, as fast as one
thread serves them, and then a flush. The path is the time that the request itself takes, and nothing is delivered
meanwhile.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import NamedTuple

from benchmarks.apps.kinds import Captures, Served, nothing
from benchmarks.delivered import check_delivered, deliver
from benchmarks.isolated import hand_over
from benchmarks.server import running
from benchmarks.table import Row
from benchmarks.timing import WARM_UP, Serve, overhead, processor_over
from benchmarks.vendors import Destinations, all_four, analyse
from benchmarks.workload import EVENT, PROPERTIES
from sessionsight import Analytics

REQUESTS = 1_000
ROUNDS = 20


class Aims(NamedTuple):
    """Microseconds of processor time in total, without and with one capture, and times less than the cheapest peer."""

    no_capture: float | None
    one_capture: float | None
    below_peers: float | None


AIMS = {
    "starlette": Aims(2, 26, 2.8),
    "wsgi": Aims(None, None, None),
    "flask": Aims(5, 48, 2.4),
    "django": Aims(5, 48, 2.3),
}
FOUR_OVER_ONE = 1.6
"""Aim of the total with four vendors, in multiples of the total with one."""


def capture(analytics: Analytics) -> None:
    analytics.capture(EVENT, PROPERTIES)


CASES: dict[str, tuple[Callable[[str], Destinations], Captures | None]] = {
    "no capture": (analyse, None),
    "one capture": (analyse, capture),
    "one capture, four vendors": (all_four, capture),
}


def measure(framework: str) -> list[Row]:
    app = import_module(f"benchmarks.apps.{framework}")
    with running() as url:
        bare: Serve = app.bare(nothing)
        apps: dict[str, Served] = {
            case: app.ours(destinations(url), captures) for case, (destinations, captures) in CASES.items()
        }
        totals = total(bare, apps)
        for case, (_, captures) in CASES.items():
            check_delivered(apps[case].client, (ROUNDS + WARM_UP) * REQUESTS if captures else 0)
        path = {case: overhead(bare, apps[case].serve, partial(deliver, apps[case].client)) for case in CASES}
    aims = AIMS[framework]
    four, one = totals["one capture, four vendors"], totals["one capture"]
    return [
        Row(what=f"{framework}, no capture", figure=totals["no capture"], unit="µs", aim=aims.no_capture),
        Row(what=f"{framework}, one capture", figure=one, unit="µs", aim=aims.one_capture),
        Row(what=f"{framework}, one capture, four vendors", figure=four, unit="µs"),
        Row(what=f"{framework}, four vendors over one", figure=four / one, unit="times", aim=FOUR_OVER_ONE),
        *(Row(what=f"{framework}, {case}: the request's path", figure=path[case], unit="µs") for case in CASES),
    ]


def total(bare: Serve, apps: dict[str, Served]) -> dict[str, float]:
    """Return the microseconds of processor time of a request over the bare one."""

    def serve(served: Served) -> None:
        served.serve(REQUESTS)
        deliver(served.client)

    works: dict[str, Callable[[], object]] = {"bare": lambda: bare(REQUESTS)}
    for case, served in apps.items():
        works[case] = partial(serve, served)
    return {case: cost / REQUESTS * 1e6 for case, cost in processor_over("bare", works, rounds=ROUNDS).items()}


if __name__ == "__main__":
    hand_over(measure(sys.argv[1]))
