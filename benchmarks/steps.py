"""Single steps of a request's path, for pyperf, which runs this module again in several processes.

Nothing is sent anywhere; records that are handed over go to a transport that does nothing, between the
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
from sessionsight.records import Record
from sessionsight.request_data import RequestData, from_environ
from sessionsight.resolve import resolve
from sessionsight_flask.wsgi import EnvironReader

_NO_SERVER = "http://127.0.0.1:9"
_READER = EnvironReader()
_ENVIRONS = [environ(number) for number in range(100)]

Step = Callable[[int], float]
"""Does something so many times; returns the seconds it took."""


def steps() -> dict[str, tuple[Step, float | None]]:
    """What is measured, and its aim in microseconds."""
    lonely = _client(analyse(_NO_SERVER))
    crowded = _client(all_four(_NO_SERVER))
    return {
        "capture of 8 properties, in a burst, p50": (_burst(lonely, _capture), 3),
        "goal increment": (_burst(lonely, _increment), None),
        "Analytics object creation": (_creation(lonely), None),
        "resolve: strings to context": (_resolve(), None),
        "submit of a request's one record, one vendor": (_submit(lonely, records=1), None),
        "submit of a request's ten records, one vendor": (_submit(lonely, records=10), None),
        "submit of a request's one record, four vendors": (_submit(crowded, records=1), None),
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
            analytics = Analytics(client, _READER, _ENVIRONS[turn % 100])
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
            Analytics(client, _READER, request)
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


def _submit(client: Client, *, records: int) -> Step:
    """Fifty requests' records, then a flush that is not timed."""
    captured: list[Record] = []
    for request in _ENVIRONS:
        analytics = Analytics(client, _READER, request)
        for _ in range(records):
            _capture(analytics)
        captured += analytics._drain()
    context = resolve(from_environ(_ENVIRONS[0])).context

    def run(loops: int) -> float:
        total = 0.0
        for turn in range(-(-loops // 50)):
            calls = range(min(50, loops - turn * 50))
            lots = [captured[call * records : (call + 1) * records] for call in calls]
            started = perf_counter()
            for lot in lots:
                client.submit(context, lot, None)
            total += perf_counter() - started
            client.flush()
        return total

    return run


if __name__ == "__main__":
    # pyperf's workers come here as well: nothing but the runner may start a process.
    runner = pyperf.Runner(processes=5, values=5, min_time=0.05, program_args=("-m", "benchmarks.steps"))
    for name, (step, _) in steps().items():
        runner.bench_time_func(name, step)
