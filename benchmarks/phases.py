"""The cost of a captured request by phase: path, queue and delivery, one after the other in batches of requests.

A batch of requests is served first, with no other thread running meanwhile: that is the path. Then their contexts are
resolved and their records queued, and at last they are delivered. The phases of a busy server overlap, which changes
little of what they cost.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from time import perf_counter

from benchmarks.apps.kinds import Served, nothing
from benchmarks.delivered import check_delivered, deliver
from benchmarks.rows.requests import CASES, capture
from benchmarks.server import running
from benchmarks.timing import Clock, Serve
from benchmarks.vendors import analyse, nowhere
from benchmarks.workload import environ
from sessionsight import Analytics, Client, Settings
from sessionsight.adapters import RequestScope, scope_of
from sessionsight.wsgi import EnvironRequest

BATCH = 100
"""Requests whose records are delivered together: one call to Analyse.net, five to Signal."""
_NEVER = 3600.0
# Under valgrind, on a busy machine, the imports of the first delivery take more than a minute.
_PATIENCE = 300.0

Mark = Callable[[str], None]
"""Ends a window, and names it."""

DIRECT, WITHOUT_HTTP = "direct", "direct, without HTTP"
"""Captures without a framework, delivered as usual and by a transport that does nothing."""


def windows(framework: str, mark: Mark, *, warm_up: int, batches: int) -> None:
    """Serve batches of requests in every case, and call `mark` at the end of each phase.

    A window is named by its case and its phase, such as `one capture: path`. Those of the warm-up, and the time between
    two phases, have an empty name.

    Args:
        framework: Name of a module in `benchmarks.apps`.
        mark: Called at the end of each window.
        warm_up: How many batches of each case are not counted.
        batches: How many are counted.
    """
    app = import_module(f"benchmarks.apps.{framework}")
    sys.setswitchinterval(_NEVER)
    with running() as url:
        cases: dict[str, Served | tuple[Serve, None]] = {"bare": (app.bare(nothing), None)}
        for case, (destinations, captures) in CASES.items():
            cases[case] = app.ours(destinations(url), captures)
        for case, make_transport in ((DIRECT, None), (WITHOUT_HTTP, nowhere)):
            direct = Client(Settings.from_mapping({"destinations": analyse(url)}), make_transport=make_transport)
            cases[case] = Served(_direct(direct), direct)
        for turn in range(warm_up + batches):
            for case, (serve, client) in cases.items():
                _batch(case if turn >= warm_up else "", serve, client, mark)
        for case, (_, client) in cases.items():
            if client is not None:
                check_delivered(client, 0 if case == "no capture" else (warm_up + batches) * BATCH)


def _batch(case: str, serve: Serve, client: Client | None, mark: Mark) -> None:
    names = iter(("", f"{case}: path" if case else ""))

    def clock() -> float:
        mark(next(names))
        return 0.0

    serve(BATCH, clock)
    if client is not None:
        client.stats()  # resolves contexts and queues records
        mark(f"{case}: queue" if case else "")
        deliver(client, _PATIENCE)
        mark(f"{case}: delivery" if case else "")


def _direct(client: Client) -> Serve:
    requests = [environ(number) for number in range(BATCH)]

    def serve(number: int, clock: Clock = perf_counter) -> float:
        started = clock()
        for request in requests[:number]:
            analytics = Analytics(RequestScope(client, EnvironRequest(request)))
            capture(analytics)
            scope_of(analytics).close()
        return clock() - started

    return serve


def split(costs: dict[str, float]) -> Iterator[tuple[str, float]]:
    """Yield the parts of a captured request's cost over the bare one, from the costs of the windows."""
    http = costs[f"{DIRECT}: delivery"] - costs[f"{WITHOUT_HTTP}: delivery"]
    yield "middleware", costs["no capture: path"] - costs["bare: path"]
    yield "capture", costs["one capture: path"] - costs["no capture: path"]
    yield "context and queue", costs["one capture: queue"]
    yield "batch and body", costs["one capture: delivery"] - http
    yield "HTTP call", http
