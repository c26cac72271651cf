"""Additional cost of a request with sessionsight: one framework, against the bare app, in interleaved pairs.

Delivery goes to the local server, between the timed runs: what is timed is the request's own path, with
submitting its records and waking the lane.
"""

from __future__ import annotations

import sys
from importlib import import_module

from benchmarks.apps.kinds import nothing
from benchmarks.isolated import hand_over
from benchmarks.server import running
from benchmarks.table import Row
from benchmarks.timing import overhead
from benchmarks.vendors import all_four, analyse
from benchmarks.workload import EVENT, PROPERTIES
from sessionsight import Analytics

AIMS = {"starlette": (2, 8), "wsgi": (2, 8), "flask": (2, 8), "django": (5, 12)}
"""Without and with one capture, in microseconds."""


def capture(analytics: Analytics) -> None:
    analytics.capture(EVENT, PROPERTIES)


def measure(framework: str) -> list[Row]:
    app = import_module(f"benchmarks.apps.{framework}")
    without, with_one = AIMS[framework]
    bare = app.bare(nothing)
    rows: list[Row] = []
    with running() as url:
        for what, destinations, look, aim in (
            ("no capture", analyse(url), None, without),
            ("one capture", analyse(url), capture, with_one),
            ("one capture, four vendors", all_four(url), capture, None),
        ):
            served, flush = app.ours(destinations, look)
            figure = overhead(bare, served, flush)
            rows.append(Row(what=f"request over bare {framework}, {what}", figure=figure, unit="µs", aim=aim))
    return rows


if __name__ == "__main__":
    hand_over(measure(sys.argv[1]))
