"""A capture's price at 2,000 calls a second, while delivery to the local server runs beside it."""

from __future__ import annotations

from itertools import count

from benchmarks.delivered import check_delivered, deliver
from benchmarks.isolated import hand_over
from benchmarks.server import running
from benchmarks.table import Row
from benchmarks.timing import paced
from benchmarks.vendors import analyse
from benchmarks.workload import EVENT, PROPERTIES, environ
from sessionsight import Analytics, Client, Settings
from sessionsight.adapters import RequestScope, scope_of
from sessionsight.wsgi import EnvironRequest

RATE = 2_000
CALLS = 10_000


def measure() -> list[Row]:
    requests = [environ(number) for number in range(100)]
    numbers = count()
    with running() as url:
        client = Client(Settings.from_mapping({"destinations": analyse(url)}))

        def open_request() -> Analytics:
            return Analytics(RequestScope(client, EnvironRequest(requests[next(numbers) % 100])))

        def capture(analytics: Analytics) -> None:
            analytics.capture(EVENT, PROPERTIES)

        client.bind(open_request().context).capture(EVENT)
        deliver(client)  # imports and connection are there
        inside = paced(open_request, capture, lambda analytics: scope_of(analytics).close(), rate=RATE, calls=CALLS)
        context = open_request().context
        outside = paced(lambda: client.bind(context), capture, lambda _: None, rate=RATE, calls=CALLS)
        deliver(client)
        check_delivered(client, 1 + 2 * (CALLS + CALLS // 20))
    what = f"at {RATE:,}/s while delivery runs"
    return [
        Row(what=f"capture {what}, p50", figure=inside.p50, unit="µs", aim=5),
        Row(what=f"capture {what}, p99", figure=inside.p99, unit="µs", aim=30),
        Row(what=f"capture outside a request (submitted immediately) {what}, p50", figure=outside.p50, unit="µs"),
        Row(what=f"capture outside a request (submitted immediately) {what}, p99", figure=outside.p99, unit="µs"),
    ]


if __name__ == "__main__":
    hand_over(measure())
