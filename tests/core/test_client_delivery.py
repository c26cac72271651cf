"""A client and its vendors: flush, shutdown, statistics and resume, over real connections."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from sessionsight import Client, Settings
from sessionsight.destinations import Analyse, Saytics, SessionSight, Signal
from sessionsight.errors import ConfigurationError
from tests.core.delivery.kit import lane_threads, tally
from tests.support.ports import free_port
from tests.support.server import PATIENCE, Request, Server, after, raw, reply, reset, silence, until

MakeClient = Callable[..., Client]
Threads = Callable[[], set[threading.Thread]]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def client_of(server: Server, threads: Threads) -> Iterator[MakeClient]:
    made: list[Client] = []

    def make(*names: str, url: str = server.url, **options: Any) -> Client:
        every = {
            "signal": Signal(api_key="key", endpoint=url),
            "saytics": Saytics(secret_key="sk_live_1", api_url=url, batch_size=7, calls_per_minute=9999),
            "analyse": Analyse(public_key="pk_live_1", host=url),
            "sessionsight": SessionSight(secret_api_key="key", property_id="shop", api_url=url),
        }
        quick = {"linger": 0, "backoff_base": 0.001, "backoff_max": 0.01, "pause_interval": 0.02, "trust_env": False}
        destinations = tuple(every[name] for name in names or ("signal",))
        made.append(Client(Settings(destinations=destinations, **{**quick, **options})))
        return made[-1]

    yield make
    for client in made:
        client.shutdown(timeout=0)


@pytest.fixture(autouse=True)
def threads() -> Iterator[Threads]:
    """Returns the current threads of the test's clients; none is left after the test."""
    before = lane_threads()

    def threads() -> set[threading.Thread]:
        return lane_threads() - before

    yield threads
    until(lambda: not threads(), "all threads have ended")


def counts(client: Client, name: str = "signal") -> dict[str, Any]:
    return tally(client.stats().lanes[name])


def capture(client: Client, *names: str) -> None:
    for name in names:
        client.analytics.capture(name, user_id="user_1")


def test_a_full_batch_is_sent_without_lingering(client_of: MakeClient, server: Server) -> None:
    client = client_of("saytics", linger=3600)

    capture(client, *"abcdefg")

    server.wait_for(1)


# --- flush ----------------------------------------------------------------------------------------


def test_flush_waits_until_everything_is_delivered(client_of: MakeClient, server: Server) -> None:
    client = client_of("signal", "sessionsight", linger=3600)
    capture(client, "a", "b")
    client.analytics.goals.increment("signups", session_id="6f1d2c3b")

    assert client.flush(PATIENCE)

    assert counts(client) == {"captured": 2, "delivered": 2}
    assert counts(client, "sessionsight") == {"captured": 1, "delivered": 1}


def test_flush_returns_false_if_records_are_left(client_of: MakeClient, server: Server) -> None:
    answered = threading.Event()
    server.will(after(answered, reply(200)))
    client = client_of()
    capture(client, "a")
    server.wait_for(1)

    assert not client.flush(0)
    assert not client.flush(0.05)
    answered.set()
    assert client.flush(PATIENCE)


def test_flush_without_an_argument_uses_the_setting(client_of: MakeClient, server: Server) -> None:
    server.will(silence())
    client = client_of(flush_timeout=0.05)
    capture(client, "a")

    assert not client.flush()


def test_flush_without_records_starts_no_thread(client_of: MakeClient, threads: Threads) -> None:
    client = client_of("signal", "saytics")

    assert client.flush()
    assert threads() == set()


def test_many_threads_may_flush_at_once(client_of: MakeClient, server: Server) -> None:
    client = client_of(linger=3600)
    results: list[bool] = []

    def work() -> None:
        for _ in range(5):
            capture(client, "a")
            results.append(client.flush(PATIENCE))

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(PATIENCE)

    assert results == [True] * 40
    assert counts(client) == {"captured": 40, "delivered": 40}
    assert not client._engine._lanes["signal"]._dispatcher.schedule.flushing, "the next record waits for company again"


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_aflush_does_not_block_the_event_loop(client_of: MakeClient, server: Server) -> None:
    answered = threading.Event()
    server.will(after(answered, reply(200)))
    client = client_of()
    capture(client, "a")
    flushed: list[bool] = []

    async def flush() -> None:
        flushed.append(await client.aflush(PATIENCE))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flush)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert flushed == []
        answered.set()  # reached only if the loop is not blocked

    assert flushed == [True]


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_cancelled_aflush_returns_immediately(client_of: MakeClient, server: Server) -> None:
    server.will(silence())
    client = client_of()
    capture(client, "a")

    with anyio.move_on_after(0.05) as scope:
        await client.aflush(5.0)

    assert scope.cancelled_caught
    assert counts(client) == {"captured": 1, "pending": 1}
    client.shutdown(timeout=0)  # ends the wait of the abandoned thread


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_capturing_on_an_event_loop_does_not_wait_for_vendors(client_of: MakeClient, server: Server) -> None:
    server.answer = silence()
    client = client_of("signal", "saytics", "analyse")

    for number in range(100):
        capture(client, str(number))

    assert {counts(client, name)["captured"] for name in ("signal", "saytics", "analyse")} == {100}


# --- shutdown -------------------------------------------------------------------------------------


def test_shutdown_delivers_pending_records_and_ends_all_threads(
    client_of: MakeClient, server: Server, threads: Threads
) -> None:
    client = client_of("signal", "sessionsight", linger=3600)
    capture(client, "a")
    client.analytics.goals.increment("signups", session_id="6f1d2c3b")

    assert client.shutdown(PATIENCE)

    assert len(server.requests) == 2
    until(lambda: not threads(), "all threads have ended")
    server.wait_until(lambda: not server._open, "all connections are closed")


def test_shutdown_counts_and_logs_lost_records(
    client_of: MakeClient, server: Server, caplog: pytest.LogCaptureFixture, threads: Threads
) -> None:
    server.answer = silence()
    client = client_of("signal", "analyse")
    capture(client, "a", "b")
    server.wait_for(2)

    assert not client.shutdown(0.05)

    for name in ("signal", "analyse"):
        assert counts(client, name) == {"captured": 2, "shutdown": 2}
    [line] = [record.getMessage() for record in caplog.records]
    assert line == ("shutdown: records were lost that could not be delivered: 2 for signal, 2 for analyse")
    until(lambda: not threads(), "all threads have ended, even those that waited for a reply")


def test_captures_after_shutdown_are_counted_as_lost(client_of: MakeClient, server: Server, threads: Threads) -> None:
    client = client_of()
    assert client.shutdown()

    capture(client, "late")

    assert counts(client) == {"captured": 1, "shutdown": 1}
    assert client.flush(PATIENCE)
    assert client.shutdown()
    client.resume()
    assert threads() == set()
    assert server.requests == []


# --- nothing to send to ---------------------------------------------------------------------------


def test_a_disabled_client_counts_sends_and_logs_nothing(
    client_of: MakeClient, server: Server, caplog: pytest.LogCaptureFixture, threads: Threads
) -> None:
    client = client_of("signal", "sessionsight", disabled=True)

    capture(client, "a")
    client.analytics.goals.increment("signups", session_id="6f1d2c3b")

    assert client.flush()
    assert client.stats().lanes == {}
    assert client.dead_letters() == []
    assert client.shutdown()
    assert threads() == set()
    assert caplog.text == ""
    assert server.requests == []


def test_without_destinations_calls_work_and_one_warning_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    client = Client(Settings())

    capture(client, "a", "b")

    assert client.flush()
    assert client.stats().lanes == {}
    assert client.shutdown()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no destination is configured" in caplog.text


# --- resume ---------------------------------------------------------------------------------------


def test_resume_retries_one_lane_or_all_immediately(client_of: MakeClient, server: Server) -> None:
    server.answer = reply(401)
    client = client_of("signal", "analyse", pause_interval=3600)
    capture(client, "a")
    until(lambda: {lane.state for lane in client.stats().lanes.values()} == {"paused"}, "both pause")
    server.answer = reply(200)

    client.resume("analyse")

    until(lambda: client.stats().lanes["analyse"].delivered == 1, "one has delivered")
    assert client.stats().lanes["signal"].state == "paused"
    client.resume()
    assert client.flush(PATIENCE)
    assert counts(client) == {"captured": 1, "delivered": 1}


def test_resume_rejects_unknown_lanes(client_of: MakeClient) -> None:
    with pytest.raises(ConfigurationError, match="signal"):
        client_of("signal").resume("signl")


# --- the ledger -----------------------------------------------------------------------------------


def test_the_ledger_adds_up_and_goals_count_once_whatever_vendors_respond(
    client_of: MakeClient, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    chance = random.Random(20260101)
    counted: dict[str, int] = {}
    lock = threading.Lock()
    faults = [
        reply(500), reply(503), reply(503, {"Retry-After": "0"}), reply(429), reply(408), reply(413), reply(400),
        reply(401), reply(302), reset(), raw(b"garbage\r\n\r\n"), raw(b""),
    ]  # fmt: skip

    def decide(request: Request) -> Any:
        with lock:
            if chance.random() < 0.4:
                return chance.choice(faults)
            if "goals" in request.target:
                goal = request.json["goalId"]
                counted[goal] = counted.get(goal, 0) + 1
                if chance.random() < 0.2:
                    return reset()  # accepted, but the connection is reset
            return reply(200)

    server.decide = decide
    client = client_of(
        "signal", "saytics", "analyse", "sessionsight", queue_records=150, dead_letters=50, breaker_failures=3
    )

    def visit(visitor: int) -> None:
        for number in range(25):
            capture(client, f"event {visitor} {number}")
            client.analytics.identify(f"user {visitor}")
            client.analytics.goals.increment(f"goal {visitor} {number}", session_id="6f1d2c3b")
            assert all(lane.balanced for lane in client.stats().lanes.values())

    visitors = [threading.Thread(target=visit, args=(number,)) for number in range(6)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join(PATIENCE)
    assert client.flush(2 * PATIENCE), client.stats()

    for name, lane in client.stats().lanes.items():
        assert lane.balanced, lane
        assert lane.pending == 0
        assert lane.captured == (150 if name == "sessionsight" else 300)
    goals = client.stats().lanes["sessionsight"]
    assert max(counted.values()) == 1
    assert goals.delivered <= len(counted) <= goals.delivered + goals.dead + goals.dropped.get("dead_letters_full", 0)


def test_dead_letters_of_all_lanes_are_listed(client_of: MakeClient, server: Server) -> None:
    server.will(reply(400), reply(400))
    client = client_of("signal", "analyse")
    capture(client, "a")
    assert client.flush(PATIENCE)

    assert sorted((letter.destination, letter.reason) for letter in client.dead_letters()) == [
        ("analyse", "refused"),
        ("signal", "refused"),
    ]


def test_an_unreachable_vendor_does_not_affect_other_lanes(client_of: MakeClient, server: Server) -> None:
    client = client_of(url=f"http://127.0.0.1:{free_port()}")
    alive = client_of()

    capture(client, "a")
    capture(alive, "a")

    assert alive.flush(PATIENCE)
    assert not client.flush(0.05)
    assert counts(client) == {"captured": 1, "pending": 1}
