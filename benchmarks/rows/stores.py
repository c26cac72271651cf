"""A durable spool of one kind: what the write of a request costs, and how fast one process claims and settles records.

Claims and settlements are calls of the store, in batches of 100 and lane by lane, as a relay makes them; what a relay
does besides, such as decoding and sending, is in the rows about throughput. Of several rounds the fastest counts,
because whatever else the machine does makes a round slower.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from benchmarks.isolated import hand_over
from benchmarks.stores import KINDS, LANES, fill, open_spool, prepared, request
from benchmarks.table import Row
from benchmarks.timing import paced
from sessionsight.delivery.stores.base import DELIVERED, Outcome, Store

ROUNDS = 5
RATE = 200
"""Requests in a second; a round takes one."""
BATCH = 100
BATCHES = 20
"""Batches of each lane in a round."""
WRITE_AIMS = {"redis": 250.0}
SETTLE_AIMS = {"sqlite": 30_000.0, "redis": 50_000.0, "postgresql": 25_000.0}


def measure(kind: str) -> list[Row]:
    name = KINDS[kind]
    with prepared(kind) as url:
        spool = open_spool(url)
        store: Any = spool.store
        spool.enqueue(request())  # connects
        p50, p99 = min(paced(request, spool.enqueue, lambda _: None, rate=RATE, calls=RATE) for _ in range(ROUNDS))
        write = f"{name}: write of 3 records for 4 lanes"
        rows = [
            Row(what=f"{write}, p50", figure=p50, unit="µs", aim=WRITE_AIMS.get(kind)),
            Row(what=f"{write}, p99", figure=p99, unit="µs"),
        ]
        if kind in {"postgresql", "mariadb"}:
            rows.append(Row(what=f"{name}: taken in from the inbox", figure=taken_in(store), unit="records/s"))
        fill(store, ROUNDS * BATCHES * BATCH)
        store.stats()  # takes all in
        what = f"{name}: claimed and settled, {BATCH} a call"
        fastest = max(settled(store) for _ in range(ROUNDS))
        rows.append(Row(what=what, figure=fastest, unit="records/s", aim=SETTLE_AIMS.get(kind), at_least=True))
        stats = store.stats()
        if not all(lane.balanced and lane.delivered == ROUNDS * BATCHES * BATCH for lane in stats.lanes.values()):
            raise RuntimeError(f"records were lost: {stats}")
        spool.close()
    return rows


def taken_in(store: Store) -> float:
    """Return how many records a second a process moves from the inbox to the queues."""
    started = time.perf_counter()
    lanes = store.stats().lanes.values()
    return sum(lane.captured for lane in lanes) / (time.perf_counter() - started)


def settled(store: Store) -> float:
    """Return how many records a second a process claims and acknowledges, in one round."""
    number, started = 0, time.perf_counter()
    for _ in range(BATCHES):
        for lane in LANES:
            claims = store.claim(lane, max_records=BATCH, max_bytes=1 << 30, timeout=5.0).claims
            handles = [claim.handle for claim in claims]
            store.settle(lane, [Outcome(handles=handles, counter=DELIVERED)], timeout=5.0)
            number += len(handles)
    return number / (time.perf_counter() - started)


if __name__ == "__main__":
    try:
        hand_over(measure(sys.argv[1]))
    except LookupError as reason:
        print(f" skipped: {reason}", end="", file=sys.stderr)
        hand_over([])
