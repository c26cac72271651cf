"""Single steps of a request's path, for pyperf, which runs this module again in several processes.

Nothing is sent: submitted records go to a transport that does nothing, between the
measured times.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import pyperf

from benchmarks.vendors import all_four, analyse, nowhere
from benchmarks.workload import EVENT, PROPERTIES, environ
from sessionsight import Analytics, Client, Settings
from sessionsight.adapters import RequestScope
from sessionsight.capture.interfaces import Batch
from sessionsight.request.raw import RequestData, from_environ
from sessionsight.request.resolve import resolve
from sessionsight.wsgi import EnvironRequest

_NO_SERVER = "http://127.0.0.1:9"
_ENVIRONS = [environ(number) for number in range(100)]

Step = Callable[[int], float]
"""Does something so many times; returns the seconds it took."""


def steps() -> dict[str, tuple[Step, float | None]]:
    """Name of the measured step, and its target in microseconds."""
    lonely = _client(analyse(_NO_SERVER))
    crowded = _client(all_four(_NO_SERVER))
    return {
        "capture of 8 properties, in a burst, p50": (_burst(lonely, _capture), 3),
        "goal increment": (_burst(lonely, _increment), None),
        "Analytics object creation": (_creation(lonely), None),
        "resolve: strings to context": (_resolve(), None),
        "submitting a request's records": (_submit_step(lonely), None),
        "in the background: context and lane of one record, one vendor": (_process_step(lonely), None),
        "in the background: context and lanes of one record, four vendors": (_process_step(crowded), None),
    }


def _client(destinations: dict[str, dict[str, Any]]) -> Client:
    return Client(Settings.from_mapping({"destinations": destinations}), make_transport=nowhere)


def _capture(analytics: Analytics) -> None:
    analytics.capture(EVENT, PROPERTIES)


def _increment(analytics: Analytics) -> None:
    analytics.goals.increment("monthly-revenue", 49)


def _burst(client: Client, call: Callable[[Analytics], None]) -> Step:
    """A hundred calls in one request."""

    def run(loops: int) -> float:
        total = 0.0
        for turn in range(-(-loops // 100)):
            analytics = Analytics(RequestScope(client, EnvironRequest(_ENVIRONS[turn % 100])))
            calls = range(min(100, loops - turn * 100))
            started = perf_counter()
            for _ in calls:
                call(analytics)
            total += perf_counter() - started
        return total

    return run


def _creation(client: Client) -> Step:
    def run(loops: int) -> float:
        request = _ENVIRONS[0]
        started = perf_counter()
        for _ in range(loops):
            Analytics(RequestScope(client, EnvironRequest(request)))
        return perf_counter() - started

    return run


def _resolve() -> Step:
    data: list[RequestData] = [from_environ(request) for request in _ENVIRONS]

    def run(loops: int) -> float:
        started = perf_counter()
        for turn in range(loops):
            resolve(data[turn % 100])
        return perf_counter() - started

    return run


def _submit_step(client: Client) -> Step:
    """Submit a batch, as the end of a request does. The queue is emptied after every 500 batches, untimed."""
    batches = _batches(client)
    submit_queue = client._engine_for_process()._submit_queue
    submit_queue._idle = False  # as during a burst of requests, when no thread is woken

    def run(loops: int) -> float:
        total = 0.0
        for turn in range(-(-loops // 500)):
            some = batches[: min(500, loops - turn * 500)]
            started = perf_counter()
            for batch in some:
                client.submit(batch)
            total += perf_counter() - started
            submit_queue._inbox.clear()
        return total

    return run


def _process_step(client: Client) -> Step:
    """Process a batch, as the submit queue's thread does: resolve its context, and enqueue its records in each lane."""
    engine = client._engine_for_process()

    def run(loops: int) -> float:
        total = 0.0
        for turn in range(-(-loops // 500)):
            some = _batches(client)[: min(500, loops - turn * 500)]
            started = perf_counter()
            engine._process_batches(some)
            total += perf_counter() - started
            client.flush()
        return total

    return run


def _batches(client: Client) -> list[Batch]:
    """Five hundred requests' single records, whose contexts are not worked out yet."""
    batches: list[Batch] = []
    for number in range(500):
        scope = RequestScope(client, EnvironRequest(_ENVIRONS[number % 100]))
        _capture(Analytics(scope))
        batches.append(scope._make_batch(scope._records))
    return batches


if __name__ == "__main__":
    # pyperf's workers come here as well: nothing but the runner may start a process.
    runner = pyperf.Runner(processes=5, values=5, min_time=0.05, program_args=("-m", "benchmarks.steps"))
    for name, (step, _) in steps().items():
        runner.bench_time_func(name, step)
