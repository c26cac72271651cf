"""A durable spool of one kind with very many pending records, a quarter of them in each of four lanes.

A new process opens it and claims, which is the start; then it claims and settles for a while. Preparing a million
records takes minutes, so that `make bench` leaves these rows out unless they are asked for: `make bench ARGS=pending`.
"""

from __future__ import annotations

import sys
import time
from statistics import quantiles

from benchmarks.heap import resident_size
from benchmarks.isolated import hand_over
from benchmarks.stores import KINDS, LANES, fill, open_spool, prepared, stored_bytes
from benchmarks.table import Row
from sessionsight.delivery.stores.base import DELIVERED, Outcome

NUMBERS = (50_000, 1_000_000)
BATCH = 100
CLAIMS = 400


def measure(kind: str, pending: int) -> list[Row]:
    name = KINDS[kind]
    with prepared(kind) as url:
        first = open_spool(url)
        first.store.ready()  # creates the tables
        empty = stored_bytes(first.store)
        fill(first.store, pending // len(LANES))
        print(" filled", end="", file=sys.stderr, flush=True)
        first.store.stats()  # takes all in
        size = stored_bytes(first.store) - empty
        first.close()
        memory, began = resident_size(), time.perf_counter()
        spool = open_spool(url)
        spool.maintain()
        spool.store.claim(LANES[0], max_records=BATCH, max_bytes=1 << 30, timeout=20.0)
        start = time.perf_counter() - began
        took: list[float] = []
        for number in range(CLAIMS):
            lane = LANES[number % len(LANES)]
            before = time.perf_counter()
            claims = spool.store.claim(lane, max_records=BATCH, max_bytes=1 << 30, timeout=20.0).claims
            took.append(time.perf_counter() - before)
            if len(claims) != BATCH:
                raise RuntimeError(f"{len(claims)} records of {lane} were claimed")
            spool.store.settle(lane, [Outcome(handles=[one.handle for one in claims], counter=DELIVERED)], timeout=20.0)
        grown = resident_size() - memory
        before = time.perf_counter()
        for lane in LANES:
            spool.store.counts(lane)
        counted = time.perf_counter() - before
        spool.close()
    percentiles = [figure * 1000 for figure in quantiles(took, n=100)]
    return [
        Row(what=f"{name}: start until the first claim", figure=start * 1000, unit="ms", aim=1000),
        Row(what=f"{name}: claim of {BATCH}, p50", figure=percentiles[49], unit="ms"),
        Row(what=f"{name}: claim of {BATCH}, p99", figure=percentiles[98], unit="ms", aim=20),
        Row(what=f"{name}: counters of the four lanes", figure=counted * 1000, unit="ms"),
        Row(what=f"{name}: memory of the process, growth", figure=grown / 2**20, unit="MiB", aim=16),
        Row(what=f"{name}: size of the store for each of them", figure=size / pending, unit="bytes"),
    ]


if __name__ == "__main__":
    try:
        hand_over(measure(sys.argv[1], int(sys.argv[2])))
    except LookupError as reason:
        print(f" skipped: {reason}", end="", file=sys.stderr)
        hand_over([])
