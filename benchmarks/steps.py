"""Single steps of a request's path, for pyperf, which runs this module again in several processes.

Nothing is submitted.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import pyperf

from benchmarks.vendors import analyse, nowhere
from benchmarks.workload import EVENT, PROPERTIES, environ
from sessionsight import Analytics, Client, Settings
from sessionsight.adapters import RequestScope
from sessionsight.request.raw import RequestData, from_environ
from sessionsight.request.resolve import resolve
from sessionsight.wsgi import EnvironRequest

_NO_SERVER = "http://127.0.0.1:9"
_ENVIRONS = [environ(number) for number in range(100)]

Step = Callable[[int], float]
"""Does something so many times; returns the seconds it took."""


def steps() -> dict[str, Step]:
    """Names to measured steps."""
    client = Client(Settings.from_mapping({"destinations": analyse(_NO_SERVER)}), make_transport=nowhere)
    return {
        "capture of 8 properties, in a burst, p50": _burst(client, _capture),
        "goal increment": _burst(client, _increment),
        "Analytics object creation": _creation(client),
        "resolve: strings to context": _resolve(),
    }


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


if __name__ == "__main__":
    # pyperf's workers come here as well: nothing but the runner may start a process.
    runner = pyperf.Runner(processes=5, values=5, min_time=0.05, program_args=("-m", "benchmarks.steps"))
    for name, step in steps().items():
        runner.bench_time_func(name, step)
