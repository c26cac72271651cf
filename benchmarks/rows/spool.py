"""Cost of a request with a durable spool: three records for four lanes, in one transaction.

Alone first; then four processes write, each 100 requests a second, while four others claim and settle.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import NamedTuple

import msgspec

from benchmarks.isolated import hand_over
from benchmarks.server import ROOT
from benchmarks.table import Row
from benchmarks.timing import Calls, paced
from benchmarks.workload import EVENT, PROPERTIES, environ
from sessionsight import Client, Settings
from sessionsight.capture.encoding import PropertyEncoder
from sessionsight.capture.records import EventRecord, QueuedRecord
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.durable_spool import DurableSpool
from sessionsight.delivery.stores.base import LaneBatch
from sessionsight.delivery.stores.sqlite.store import SqliteStore
from sessionsight.log import ThrottledLogger

LANES = ("sessionsight", "signal", "saytics", "analyse")
PROCESSES = 4
SECONDS = 5


class Written(NamedTuple):
    """Measurements of one process."""

    p50: float
    p99: float
    bypassed: int
    """Requests whose records had to wait in memory."""


def make(path: str) -> DurableSpool:
    options, logger = DeliveryOptions(spool_bytes=1 << 30), ThrottledLogger()
    spool = DurableSpool(SqliteStore(path, options, logger), options, logger)
    for lane in LANES:
        spool.lane(lane)
    return spool


def write(path: str, *, rate: int, calls: int) -> Written:
    spool = make(path)
    properties = PropertyEncoder(unknown=lambda kind: None)(PROPERTIES)
    context = Client(Settings()).for_request(environ(1)).context

    def request() -> list[LaneBatch]:
        now = time.time()
        records = [EventRecord(random=os.urandom(10), time=now, name=EVENT, properties=properties) for _ in range(3)]
        entries = [QueuedRecord(record, context, now) for record in records]
        return [LaneBatch(lane, entries) for lane in LANES]

    spool.enqueue(request())  # creates the file
    timed: Calls = paced(request, spool.enqueue, lambda _: None, rate=rate, calls=calls)
    bypassed = sum(spool.lane(lane).fallback.pending for lane in LANES) // 12
    for lane in LANES:
        spool.lane(lane).close()
    spool.close()
    return Written(timed.p50, timed.p99, bypassed)


def drain(path: str, lane: str) -> None:
    """Claim and acknowledge records until the lane was empty 200 times in a row."""
    spool = make(path)
    queue = spool.lane(lane)
    idle = 0
    while idle < 200:
        queue.maintain()
        entries = queue.claim(100, 1 << 30)
        queue.ack(entries)
        idle = 0 if entries else idle + 1
        time.sleep(0.01)  # the vendor's response time
    queue.close()
    spool.close()


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        alone = write(f"{folder}/alone.db", rate=500, calls=500 * SECONDS)
        among = contended(f"{folder}/shared.db")
    what = "spool write, 3 records for 4 lanes"
    crowd = f"{what}, {PROCESSES} writers and {PROCESSES} drainers"
    bypassed = sum(one.bypassed for one in among) / (PROCESSES * 100 * SECONDS)
    return [
        Row(what=f"{what}: p50", figure=alone.p50, unit="µs", aim=120),
        Row(what=f"{what}: p99", figure=alone.p99, unit="µs"),
        Row(what=f"{crowd}: p50", figure=median(one.p50 for one in among), unit="µs"),
        Row(what=f"{crowd}: p99", figure=max(one.p99 for one in among), unit="µs"),
        Row(what=f"{crowd}: waited in memory", figure=100 * bypassed, unit="%"),
    ]


def contended(path: str) -> list[Written]:
    make(path).close()

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "benchmarks.rows.spool", *arguments]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)

    writers = [start("write", path) for _ in range(PROCESSES)]
    drainers = [start("drain", path, lane) for lane in LANES]
    told = [writer.communicate(timeout=120)[0] for writer in writers]
    for drainer in drainers:
        drainer.communicate(timeout=120)
    return [msgspec.json.decode(one, type=Written) for one in told]


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["write", path]:
            sys.stdout.buffer.write(msgspec.json.encode(write(path, rate=100, calls=100 * SECONDS)))
        case ["drain", path, lane]:
            drain(path, lane)
        case _:
            hand_over(measure())
