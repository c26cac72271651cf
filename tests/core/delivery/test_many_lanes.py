"""A thousand lanes in one client, as an app has them with a lane for each tenant."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from sessionsight.capture.interfaces import Batch
from sessionsight.capture.records import EventRecord
from sessionsight.delivery.engine import Engine
from sessionsight.delivery.stats import LaneStats
from sessionsight.log import ThrottledLogger
from tests.core.delivery.kit import USER, batches, lane_threads, quick
from tests.support.server import PATIENCE, Server, silence, until

_NUMBER = 1_000


def record(name: str, *destinations: str) -> EventRecord:
    named = frozenset(destinations) or None
    return EventRecord(random=os.urandom(10), time=time.time(), name=name, destinations=named)


@pytest.fixture
def alive() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def dead() -> Iterator[Server]:
    with Server(answer=silence()) as server:
        yield server
        server.released.set()


def test_lanes_of_a_vendor_that_hangs_delay_no_other_lane(alive: Server, dead: Server) -> None:
    before = lane_threads()
    destinations = [
        batches(dead.url if number % 10 else alive.url, name=f"tenant{number}") for number in range(_NUMBER)
    ]
    engine = Engine(destinations, quick(linger=0.01), ThrottledLogger())

    engine.submit(Batch([record("seen")], USER))

    def of(numbers: range) -> list[LaneStats]:
        return [engine._lanes[f"tenant{number}"].stats() for number in numbers]

    until(lambda: all(stats.delivered for stats in of(range(0, _NUMBER, 10))), "the lanes of the other have delivered")
    assert len(lane_threads() - before) <= 65
    assert sum(stats.pending for stats in of(range(_NUMBER))) == 900
    assert sum(engine.close().values()) == 900


def test_a_record_goes_to_the_lanes_that_it_names_in_the_order_of_capture(alive: Server) -> None:
    engine = Engine([batches(alive.url, name=f"tenant{number}") for number in range(5)], quick(), ThrottledLogger())
    records = [record("a", "tenant1"), record("all"), record("b", "tenant1", "tenant2"), record("c", "elsewhere")]

    engine.submit(Batch([*records], USER))

    assert engine.flush(time.monotonic() + PATIENCE)
    stats = engine.stats()
    assert [stats[f"tenant{number}"].delivered for number in range(4)] == [1, 3, 2, 1]
    assert ["a", "all", "b"] in [request.json for request in alive.requests]
    engine.close()
