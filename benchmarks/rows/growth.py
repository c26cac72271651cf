"""Cost of a process with many lanes: threads, memory, processor time while idle, and the time until it delivers.

Each lane is a tenant of Analyse.net with a name and a key of its own, and all of them deliver to the local server.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import threading
import time
from contextlib import ExitStack

from benchmarks.delivered import deliver
from benchmarks.heap import resident_size
from benchmarks.isolated import hand_over
from benchmarks.server import running
from benchmarks.table import Row
from benchmarks.timing import used
from benchmarks.vendors import Destinations
from benchmarks.workload import EVENT, PROPERTIES
from sessionsight import Client, Settings
from sessionsight.delivery.httpx_transport import http_library

IDLE_SECONDS = 5.0
SETTLE_SECONDS = 1.0
LANES = (1, 10, 100, 1_000)
IDLE_AIM = 0.1
"""Percent of a core."""


def tenants(number: int, url: str) -> Destinations:
    return {
        f"tenant_{each}": {"vendor": "analyse", "public_key": f"pk_live_{each}", "host": url} for each in range(number)
    }


def measure(lanes: int, spool: str) -> list[Row]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # a connection for each lane
    http_library()  # imported before, because it does not depend on the number of lanes
    with ExitStack() as stack:
        url = stack.enter_context(running())
        if spool == "sqlite":
            spool = f"sqlite:///{stack.enter_context(tempfile.TemporaryDirectory())}/analytics.db"
        settings = Settings.from_mapping({"destinations": tenants(lanes, url), "spool": spool})
        threads, memory, began = threading.active_count(), resident_size(), time.perf_counter()
        client = Client(settings)
        client.analytics.only("tenant_0").capture(EVENT, PROPERTIES, user_id="user_1")
        deliver(client)
        first = time.perf_counter() - began
        for number in range(lanes):
            client.analytics.only(f"tenant_{number}").capture(EVENT, PROPERTIES, user_id="user_1")
        deliver(client)
        everywhere = time.perf_counter() - began
        time.sleep(SETTLE_SECONDS)
        idle = used(lambda: time.sleep(IDLE_SECONDS))
        rows = [
            Row(what="threads", figure=threading.active_count() - threads, unit="in total"),
            Row(what="resident memory, growth", figure=(resident_size() - memory) / 1024**2, unit="MiB"),
            Row(
                what="processor time while idle",
                figure=100 * idle.processor / idle.elapsed,
                unit="% of a core",
                aim=IDLE_AIM,
            ),
            Row(what="start until the first record is delivered", figure=first * 1000, unit="ms"),
            Row(what="start until each lane has delivered one", figure=everywhere * 1000, unit="ms"),
        ]
        for name, lane in client.stats().lanes.items():
            if lane.delivered != lane.captured or lane.captured != 1 + (name == "tenant_0"):
                raise RuntimeError(f"{name} has not delivered everything: {lane}")
        client.shutdown()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return rows


if __name__ == "__main__":
    hand_over(measure(int(sys.argv[1]), sys.argv[2]))
