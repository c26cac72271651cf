"""Memory of a queued record, with its own context, while the vendor hangs."""

from __future__ import annotations

import logging
from collections.abc import Callable

from benchmarks.heap import allocated, resident
from benchmarks.isolated import hand_over
from benchmarks.server import running
from benchmarks.table import Row
from benchmarks.vendors import analyse
from benchmarks.workload import EVENT, PROPERTIES, scope
from sessionsight import Analytics, Client, Settings
from sessionsight.adapters import RequestScope
from sessionsight_asgi.request import AsgiRequest

REQUESTS = 20_000


def measure() -> list[Row]:
    logging.disable()  # what is lost in the end is lost on purpose
    with running(hang=True) as url:

        def filling(first: int) -> tuple[Client, Callable[[], None]]:
            client = Client(
                Settings.from_mapping(
                    {"destinations": analyse(url), "queue_records": 2 * REQUESTS, "queue_bytes": 1 << 30}
                )
            )

            def fill(numbers: range) -> None:
                for number in numbers:
                    analytics = Analytics(RequestScope(client, AsgiRequest(scope(number))))
                    analytics.capture(EVENT, PROPERTIES)
                    analytics._scope.close()

            def hang() -> None:
                fill(range(first + 500, first + 500 + REQUESTS))
                client.stats()  # all of it is queued

            fill(range(first, first + 500))  # what is taken once: the imports of the first call, its connection
            return client, hang

        one, fill_one = filling(0)
        grown = resident(fill_one)
        another, fill_another = filling(50_000)
        held = allocated(fill_another)
        pending = [lane.pending for client in (one, another) for lane in client.stats().lanes.values()]
        if pending != [REQUESTS + 500] * 2:
            raise RuntimeError(f"not everything is queued: {pending}")
        one.shutdown(0)
        another.shutdown(0)
    rows = [Row(what="queued record with its context, allocated", figure=held / REQUESTS, unit="bytes")]
    if grown is not None:
        rows.append(
            Row(what="queued record with its context, resident", figure=grown / REQUESTS, unit="bytes", aim=600)
        )
    return rows


if __name__ == "__main__":
    hand_over(measure())
