"""Real processes that share a Redis spool: killed at any command, stopped for longer than their lease, and forked."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.core.delivery.spool_processes import LANES, deliver, finish, names, start
from tests.core.delivery.spools import counts, redis_spool
from tests.support.interpreter import skip_unless_child_can_run
from tests.support.redis_server import RedisServer, run_redis
from tests.support.server import Server, after, reply, silence

pytestmark = pytest.mark.processes

DIE_AT = """\
from redis.connection import AbstractConnection


def die_at_command(number):
    # Before a command of this number is sent, or before its reply is read.
    left = [number]

    def counted(method):
        def call(*arguments, **options):
            left[0] -= 1
            if not left[0]:
                die()
            return method(*arguments, **options)

        return call

    for name in ("send_packed_command", "read_response"):
        setattr(AbstractConnection, name, counted(getattr(AbstractConnection, name)))


"""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[RedisServer]:
    with run_redis(tmp_path) as spool:
        yield spool


def end_leases(spool: RedisServer) -> None:
    """Let the leases of all processes be over, which have ended or are stopped."""
    for owner in spool.command("ZRANGE", "{shop}:owners", "0", "-1"):
        spool.command("ZADD", "{shop}:owners", "0", owner)


def ledgers(spool: RedisServer) -> dict[str, dict[str, int]]:
    """Return the counts of each lane."""
    opened = redis_spool(spool.url, *LANES)
    found = {lane: counts(opened.lane(lane)) for lane in LANES}
    for lane in LANES:
        opened.lane(lane).close()
    opened.close()
    return found


def check(server: Server, spool: RedisServer, acknowledged: set[str]) -> None:
    """Check that no acknowledged event is lost, that each goal is sent once or is a dead letter, and none is left."""
    arrived, stats = names(server), ledgers(spool)
    assert {name for name in acknowledged if name.startswith("e")} <= arrived.keys()
    lost = {name for name in acknowledged if name.startswith("g")} - arrived.keys()
    assert len(lost) <= stats["sessionsight"].get("dead", 0)
    assert all(times == 1 for name, times in arrived.items() if name.startswith("g"))
    assert not any("pending" in ledger for ledger in stats.values())
    records = int(spool.command("HLEN", "{shop}:records"))
    assert records == int(spool.command("HLEN", "{shop}:refs")) == stats["sessionsight"].get("dead", 0)


def test_acknowledged_records_survive_the_process(server: Server, spool: RedisServer) -> None:
    server.answer = silence()
    script = "client = make()\nfor i in range(50):\n    capture(client, f'e{i}')\ndie()"
    acknowledged = finish(start(script, server, spool.url), code=-signal.SIGKILL)
    assert len(acknowledged) == 50
    server.answer = reply(200)
    end_leases(spool)

    deliver(server, spool.url)

    check(server, spool, set(acknowledged))
    assert ledgers(spool)["signal"] == {"captured": 50, "delivered": 50}


@pytest.mark.parametrize("seed", range(12))
def test_a_process_may_die_at_any_command(server: Server, spool: RedisServer, seed: int) -> None:
    number = random.Random(seed).randrange(1, 12 * (seed + 1))
    script = f"""
{DIE_AT}
die_at_command({number})
client = make()
for i in range(10):
    capture(client, f"e{{i}}")
    increment(client, f"g{{i}}")
client.flush(20)
client.shutdown()
"""
    acknowledged = finish(start(script, server, spool.url), code=None)
    end_leases(spool)

    deliver(server, spool.url)

    check(server, spool, set(acknowledged))


def test_processes_that_are_killed_and_replaced_lose_and_repeat_nothing(server: Server, spool: RedisServer) -> None:
    """Four at a time submit and drain; each except the last ones is killed."""
    chance = random.Random(7)
    processes: list[subprocess.Popen[str]] = []
    for generation in range(3):
        for who in range(4):
            fate = f"threading.Timer({chance.uniform(0.02, 0.3)}, die).start()\n" if generation < 2 else ""
            script = f"""
client = make()
for i in range(15):
    capture(client, f"e-{generation}{who}-{{i}}")
    increment(client, f"g-{generation}{who}-{{i}}")
"""
            processes.append(start(fate + script, server, spool.url))
    acknowledged = [name for process in processes for name in finish(process, code=None)]
    end_leases(spool)

    deliver(server, spool.url)

    assert len(acknowledged) >= 4 * 30
    check(server, spool, set(acknowledged))


def test_a_process_that_was_stopped_for_longer_than_its_lease_sends_nothing_twice(
    server: Server, spool: RedisServer
) -> None:
    continued, busy = threading.Event(), threading.Event()
    answer = reply(200)

    def hold(*arguments: object) -> object:
        busy.set()
        return after(continued, answer)(*arguments)  # type: ignore[arg-type]

    server.answer = hold  # type: ignore[assignment]
    script = """
client = make()
for i in range(40):
    increment(client, f"g{i}")
    capture(client, f"e{i}")
sys.stdin.readline()
client.flush(20)
client.shutdown()
"""
    stopped = start(script, server, spool.url)
    assert busy.wait(20)
    stopped.send_signal(signal.SIGSTOP)
    os.waitpid(stopped.pid, os.WUNTRACED)
    end_leases(spool)
    server.answer = answer
    other = """
client = make()
stats = lambda: client.stats().lanes.values()
deadline = time.monotonic() + 20
while any(lane.pending for lane in stats()) and time.monotonic() < deadline:
    client.flush(0.1)
assert not any(lane.pending for lane in stats()), client.stats()
client.shutdown()
"""
    finish(start(other, server, spool.url))
    continued.set()
    stopped.send_signal(signal.SIGCONT)
    assert stopped.stdin is not None
    stopped.stdin.write("\n")

    acknowledged = finish(stopped)

    assert len(acknowledged) == 80
    check(server, spool, set(acknowledged))


@pytest.mark.parametrize("fork", ["os.fork", "fork_in_c"])
def test_a_forked_child_has_connections_of_its_own(server: Server, spool: RedisServer, fork: str) -> None:
    skip_unless_child_can_run(fork)
    script = f"""
client = make()
capture(client, "parent")
pid = {fork}()
for i in range(20):
    capture(client, f"{{'child' if not pid else 'more'}}-{{i}}")
if not pid:
    client.shutdown()
    os._exit(0)
reap(pid)
client.shutdown()
"""
    acknowledged = finish(start(script, server, spool.url))

    assert len(acknowledged) == 41
    assert names(server).keys() == set(acknowledged)
    assert ledgers(spool)["signal"] == {"captured": 41, "delivered": 41}
