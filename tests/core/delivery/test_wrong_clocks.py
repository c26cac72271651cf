"""Hosts whose clocks are wrong by an hour share a spool: its server's clock decides."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from sessionsight.delivery.stores.base import DeadLetterQuery, Outcome
from tests.core.delivery.fleets import STORES, UNKNOWN, Fleet, X, claim, put, run_fleet
from tests.core.delivery.spool_processes import finish, names, start
from tests.core.delivery.spools import POISON, empty_redis
from tests.support.brokers import need_redis
from tests.support.clock import RunningClock
from tests.support.server import Server, reply, silence

HOUR = 3600.0
SHARED = tuple(name for name in STORES if name != "sqlite")  # a file has one host, and one clock


@pytest.fixture(params=STORES)
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    with run_fleet(request.param, tmp_path) as fleet:
        yield fleet


def clocks() -> tuple[RunningClock, RunningClock]:
    """Return two clocks, an hour ahead and an hour behind."""
    ahead, behind = RunningClock(), RunningClock()
    ahead.advance(HOUR)
    behind.advance(-HOUR)
    return ahead, behind


@pytest.mark.parametrize("holder_is_ahead", [True, False])
def test_claims_end_with_their_process_whatever_its_clock_says(fleet: Fleet, *, holder_is_ahead: bool) -> None:
    ahead, behind = clocks()
    holder = fleet.start(ahead if holder_is_ahead else behind)
    other = fleet.start(behind if holder_is_ahead else ahead)
    put(other, X, "a", "b")
    held = claim(holder)
    for store in (other, holder, other):
        assert store.recover(UNKNOWN, POISON) == (0, 0)
        store.maintain()

    assert claim(other) == {}
    assert holder.mark_in_flight(X, [held["a"]], timeout=20.0)[1] == {held["a"]}
    fleet.kill(holder)

    assert other.recover(UNKNOWN, POISON) == (1, 0)
    assert [*claim(other)] == ["b"]


def test_a_key_is_a_duplicate_whatever_the_clocks_say(fleet: Fleet) -> None:
    for clock in clocks():
        put(fleet.start(clock), X, "paid", dedupe_key="order:1", enqueued_at=clock.time())

    assert fleet.start().counts(X) == {"captured": 2, "pending": 1, "duplicate": 1, "dead": 0}


@pytest.mark.parametrize("fleet", SHARED, indirect=True)
def test_a_dead_letter_does_not_expire_early(fleet: Fleet) -> None:
    both = clocks()
    stores = [fleet.start(clock, dead_letters_max_age=HOUR / 2) for clock in both]
    for store in stores:
        put(store, X, "a")
        store.settle(X, [Outcome(handles=list(claim(store).values()), failure=POISON)], timeout=20.0)

    for store in stores:
        store.maintain()

    assert len(stores[0].find(DeadLetterQuery(lane=X))) == 2


# --- processes ------------------------------------------------------------------------------------

WRONG_CLOCK = """\
import time
right = time.time
time.time = lambda: right() + ({})
"""


@pytest.mark.processes
@pytest.mark.parametrize("killed_is_ahead", [True, False])
@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_a_process_delivers_what_one_with_another_clock_has_left(
    store: str, tmp_path: Path, *, killed_is_ahead: bool
) -> None:
    namespace = f"test-{uuid4().hex}"
    path: Any = tmp_path / "spool.db" if store == "sqlite" else f"{need_redis()}?namespace={namespace}"
    hour = HOUR if killed_is_ahead else -HOUR
    with Server() as server, ExitStack() as stack:
        server.answer = silence()
        script = """
client = make()
for number in range(20):
    capture(client, f"e{number}")
client.flush(0.2)
die()
"""
        left = finish(start(script, server, path, patch=WRONG_CLOCK.format(hour)), code=-signal.SIGKILL)
        server.requests.clear()
        server.answer = reply(200)
        if store == "redis":
            stack.callback(empty_redis, path)
            client = stack.enter_context(redis.Redis.from_url(need_redis(), protocol=2))
            for owner in client.zrange(f"{{{namespace}}}:owners", 0, -1):
                client.zadd(f"{{{namespace}}}:owners", {owner: 0})
        script = """
client = make()
for number in range(20):
    increment(client, f"g{number}")
assert client.flush(20), client.stats()
stats = client.stats().lanes
assert [(lane.captured, lane.delivered) for lane in stats.values()] == [(20, 20), (20, 20)], stats
client.shutdown()
"""
        own = finish(start(script, server, path, patch=WRONG_CLOCK.format(-hour)))

        assert names(server) == dict.fromkeys([*left, *own], 1)
