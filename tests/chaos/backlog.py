"""A process that starts while a million records wait in its spool: start, claims, and memory.

    python -m tests.chaos.backlog redis 1000000

What holds: the first records are claimed within a second, 99 of 100 claims within 20 ms, and the process does not grow.
The figures depend on the machine, so this is not a part of the tests.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles

from msgspec import Struct

from benchmarks.heap import resident_size
from sessionsight.delivery.queue.durable_spool import DurableSpool
from sessionsight.delivery.stores.base import LaneBatch
from tests.core.delivery.kit import event
from tests.core.delivery.spools import LANE, redis_spool, sqlite_spool
from tests.support.redis_server import run_redis

_ROUNDS = 1_000
_BATCH = 100
_HANDOVER = 20
_OPTIONS = {"spool_bytes": 1 << 40}


class Result(Struct, frozen=True):
    """The figures of one store."""

    kind: str
    pending: int
    filled: float
    """Seconds that the writes took, of 20 records each."""
    start: float
    """Seconds until the first records are claimed, with the recovery of abandoned ones."""
    claim_p50: float
    """Milliseconds, for 100 records."""
    claim_p99: float
    settle_p99: float
    rate: float
    """Records claimed and settled per second."""
    ledger: float
    """Milliseconds of one read of the ledger."""
    growth: float
    """MiB."""

    def problems(self) -> list[str]:
        """Return what must not be."""
        wrong = {
            f"the start took {self.start:.2f} s": self.start > 1.0,
            f"a claim took {self.claim_p99:.1f} ms": self.claim_p99 > 20.0,
            f"the process grew by {self.growth:.1f} MiB": self.growth > 5.0,
        }
        return [problem for problem, holds in wrong.items() if holds]

    def __str__(self) -> str:
        """Return the figures as text."""
        lines = [
            f"{self.pending:,} records written in {self.filled:.0f} s",
            f"start: {self.start:.2f} s until the first claim, then the process grew by {self.growth:.1f} MiB",
            f"claims of {_BATCH}: p50 {self.claim_p50:.1f} ms, p99 {self.claim_p99:.1f} ms",
            f"settled: p99 {self.settle_p99:.1f} ms, {self.rate:,.0f} records/s with the claims",
            f"one read of the ledger: {self.ledger:.1f} ms",
        ]
        return "\n".join([*lines, *self.problems()])


def run(kind: str, pending: int) -> Result:
    """Measure a store in a process of its own."""
    command = [sys.executable, "-m", "tests.chaos.backlog", kind, str(pending)]
    return Result(**json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=1800).stdout))


@contextmanager
def _spools(kind: str) -> Iterator[Callable[[], DurableSpool]]:
    """Yield a function that opens the spool of an empty store."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if kind == "sqlite":
            yield lambda: sqlite_spool(folder / "spool.db", **_OPTIONS)
        elif kind == "redis":
            with run_redis(folder, appendonly="yes") as redis:
                yield lambda: redis_spool(redis.url, **_OPTIONS)
        else:
            from tests.adapters.outbox_databases import close_connection, outbox_database, outbox_spool

            with outbox_database(kind, folder) as alias:
                close_connection(alias)
                yield lambda: outbox_spool(alias, LANE, **_OPTIONS)


def _fill(spool: DurableSpool, pending: int) -> None:
    entries = [event(f"event-{number}", size=300) for number in range(_HANDOVER)]
    for _ in range(pending // len(entries)):
        spool.enqueue([LaneBatch(LANE, entries)])
    assert spool.lane(LANE).fallback.pending == 0
    spool.store.last_handle()  # takes in an inbox
    spool.close()


def _measure(kind: str, pending: int) -> Result:
    with _spools(kind) as open_spool:
        begun = time.perf_counter()
        filler = os.fork()
        if filler == 0:
            _fill(open_spool(), pending)
            os._exit(0)
        assert os.waitpid(filler, 0)[1] == 0
        filled = time.perf_counter() - begun
        begun = time.perf_counter()
        spool = open_spool()
        queue = spool.lane(LANE)
        queue.maintain()
        first = queue.claim(_BATCH, 1 << 30)
        start = time.perf_counter() - begun
        assert len(first) == _BATCH
        queue.ack(first)
        gc.collect()
        before = resident_size()
        claims, settles, delivered = [], [], _BATCH
        for _ in range(min(_ROUNDS, pending // _BATCH // 2)):
            at = time.perf_counter()
            entries = queue.claim(_BATCH, 1 << 30)
            claimed = time.perf_counter()
            queue.ack(entries)
            delivered += len(entries)
            settles.append(1000 * (time.perf_counter() - claimed))
            claims.append(1000 * (claimed - at))
        gc.collect()
        growth = (resident_size() - before) / 2**20
        at = time.perf_counter()
        stats = queue.snapshot("closed")
        ledger = 1000 * (time.perf_counter() - at)
        assert (stats.pending, stats.delivered) == (pending - delivered, delivered)
        queue.close()
        spool.close()
    rate = 1000 * (delivered - _BATCH) / (sum(claims) + sum(settles))
    claim = quantiles(claims, n=100)
    return Result(
        kind, pending, filled, start, claim[49], claim[98], quantiles(settles, n=100)[98], rate, ledger, growth
    )


if __name__ == "__main__":
    [_, chosen, number] = sys.argv
    found = _measure(chosen, int(number))
    print(json.dumps({name: getattr(found, name) for name in Result.__struct_fields__}))
