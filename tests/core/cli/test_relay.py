"""`sessionsight relay`, mostly in processes of its own, beside a process that only writes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sessionsight import Client, Settings
from sessionsight.cli.metrics_server import serve_metrics
from sessionsight.cli.relay import _watch
from sessionsight.delivery.stores.base import MAX_TAKEOVERS
from sessionsight.destinations import SessionSight, Signal
from sessionsight.relay import LaneProgress, Relay
from tests.core.cli.commands import run, start
from tests.core.cli.conftest import WriteModule
from tests.core.delivery.kit import tally
from tests.core.delivery.processes import finish
from tests.core.delivery.spool_processes import names
from tests.support.ports import free_port
from tests.support.redis_server import run_redis
from tests.support.server import PATIENCE, Server, after, reply, silence, until

pytestmark = pytest.mark.processes

StartRelay = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "spool.db"


@pytest.fixture
def web(server: Server, path: Path) -> Iterator[Client]:
    """The client of a process that only writes."""
    destinations = (
        Signal(api_key="key", project_id="shop", endpoint=server.url),
        SessionSight(secret_api_key="key", property_id="shop", api_url=server.url),
    )
    client = Client(
        Settings(destinations=destinations, delivery="relay", spool=f"sqlite:///{path}", spool_timeout=20.0)
    )
    yield client
    client.shutdown(0)


@pytest.fixture
def environ(server: Server, path: Path) -> dict[str, str]:
    """The environment of relays."""
    return {
        "SIGNAL_API_KEY": "key",
        "SIGNAL_PROJECT_ID": "shop",
        "SIGNAL_ENDPOINT": server.url,
        "SESSIONSIGHT_SECRET_API_KEY": "key",
        "SESSIONSIGHT_PROPERTY_ID": "shop",
        "SESSIONSIGHT_API_URL": server.url,
        "SESSIONSIGHT_SPOOL": f"sqlite:///{path}",
    }


@pytest.fixture
def relay(environ: dict[str, str], folder: Path) -> Iterator[StartRelay]:
    """Starts relays, which are killed after the test."""
    started: list[tuple[subprocess.Popen[str], threading.Timer]] = []

    def start_relay(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "sessionsight", "relay", *arguments],
            cwd=folder,
            env={**os.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        timer = threading.Timer(3 * PATIENCE, process.kill)  # ends the reads of a test
        timer.start()
        started.append((process, timer))
        return process

    yield start_relay
    for process, timer in started:
        timer.cancel()
        process.kill()
        process.communicate()


def capture(client: Client, *events: str) -> None:
    for name in events:
        client.analytics.capture(name, user_id="user_1")


def count(client: Client, *goals: str) -> None:
    for name in goals:
        client.analytics.goals.increment(name, session_id="s1")


def wait_for_line(process: subprocess.Popen[str], start: str) -> None:
    assert process.stdout is not None
    while not (line := process.stdout.readline()).startswith(start):
        assert line, f"the process has ended without {start!r}"


# --- once -----------------------------------------------------------------------------------------


@pytest.mark.measured_processes
def test_once_delivers_what_is_there_and_exits(web: Client, environ: dict[str, str], server: Server) -> None:
    capture(web, *(f"e{i}" for i in range(50)))
    count(web, "g1", "g2")

    ran = start("relay", "--once", folder=Path.cwd(), environ=environ)

    assert (ran.returncode, ran.stderr) == (0, "")
    assert names(server) == {**{f"e{i}": 1 for i in range(50)}, "g1": 1, "g2": 1}
    lines = ran.stdout.splitlines()
    assert lines[0] == f"delivering sessionsight, signal from sqlite:///{Path.cwd()}/spool.db"
    assert lines[-1].startswith("signal: 0 ready, 0 in flight, 50 delivered (")
    assert tally(web.stats().lanes["signal"]) == {"captured": 50, "delivered": 50}


@pytest.mark.measured_processes
def test_once_gives_up_when_all_that_is_left_cannot_be_delivered(
    web: Client, environ: dict[str, str], server: Server
) -> None:
    capture(web, "e")
    server.answer = reply(401)

    ran = start("relay", "--once", folder=Path.cwd(), environ=environ)

    assert ran.returncode == 1
    assert ran.stderr.endswith("Error: 1 records are left, whose vendors are failing\n")
    assert "1 ready, 0 in flight, 0 delivered (0.0/s), 0 dead; paused (HTTP 401" in ran.stdout
    assert tally(web.stats().lanes["signal"]) == {"captured": 1, "pending": 1}


def test_an_empty_spool_is_drained_at_once(environ: dict[str, str], path: Path) -> None:
    assert start("relay", "--once", folder=Path.cwd(), environ=environ).returncode == 0
    assert path.exists()


def test_only_the_selected_lanes_are_delivered(web: Client, environ: dict[str, str], server: Server) -> None:
    capture(web, "e")
    count(web, "g")

    assert start("relay", "--once", "--lanes", " signal ,", folder=Path.cwd(), environ=environ).returncode == 0

    assert names(server) == {"e": 1}
    assert tally(web.stats().lanes["sessionsight"]) == {"captured": 1, "pending": 1}


# --- a relay that runs ----------------------------------------------------------------------------


def test_records_are_delivered_as_they_are_written(web: Client, relay: StartRelay, server: Server) -> None:
    relay()
    capture(web, "first")
    server.wait_for(1)
    capture(web, "second")
    server.wait_for(2)
    until(lambda: tally(web.stats().lanes["signal"]) == {"captured": 2, "delivered": 2}, "both are counted")


@pytest.mark.measured_processes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_completes_calls_in_flight_and_releases_the_rest(
    web: Client, relay: StartRelay, server: Server, write: WriteModule, number: signal.Signals
) -> None:
    # A busy machine may need longer for the replies than the default.
    app = write(
        "import sessionsight\nclient = sessionsight.Client(sessionsight.Settings.from_env(shutdown_timeout=20.0))"
    )
    answered = threading.Event()
    server.decide = lambda _: after(answered, reply(200))
    count(web, *(f"g{i}" for i in range(40)))  # one a call, eight calls at a time
    process = relay("--app", f"{app}:client")
    server.wait_for(8)

    process.send_signal(number)
    wait_for_line(process, "stopping")
    answered.set()

    assert finish(process)[1] == ""
    assert (len(names(server)), sum(names(server).values())) == (8, 8)
    assert tally(web.stats().lanes["sessionsight"]) == {"captured": 40, "delivered": 8, "pending": 32}
    relay("--once").wait(60)
    assert tally(web.stats().lanes["sessionsight"]) == {"captured": 40, "delivered": 40}
    assert names(server) == {f"g{i}": 1 for i in range(40)}


def test_a_goal_in_flight_at_the_end_of_the_shutdown_timeout_is_not_repeated(
    web: Client, relay: StartRelay, server: Server
) -> None:
    server.answer = silence()
    count(web, "g")
    capture(web, "e")
    process = relay()
    server.wait_for(2)
    process.terminate()
    finish(process)  # after two seconds, while the vendor is silent for ten

    server.answer = reply(200)
    assert relay("--once").wait(60) == 0

    assert tally(web.stats().lanes["signal"]) == {"captured": 1, "delivered": 1}
    assert tally(web.stats().lanes["sessionsight"]) == {"captured": 1, "dead": 1}
    assert [letter.reason for letter in web.dead_letters()] == ["unknown"]
    assert names(server) == {"e": 2, "g": 1}


@pytest.mark.measured_processes
def test_a_terminal_shows_a_table(web: Client, environ: dict[str, str], folder: Path) -> None:
    capture(web, "e")
    ours, theirs = os.openpty()
    try:
        assert start("relay", "--once", folder=folder, environ=environ, stdout=theirs).returncode == 0
        shown = os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "lane                ready  in flight    delivered  delivered/s      dead  state\r\n" in shown
    assert "\nsignal                  0          0            1 " in shown


def test_a_second_signal_ends_the_process_at_once(web: Client, relay: StartRelay, server: Server) -> None:
    answered = threading.Event()
    server.decide = lambda _: after(answered, reply(200))
    count(web, "g")
    process = relay()
    server.wait_for(1)
    process.terminate()
    wait_for_line(process, "stopping")

    process.terminate()

    finish(process, code=-signal.SIGTERM)
    answered.set()


def test_relays_that_are_killed_lose_no_record_and_repeat_no_goal(
    web: Client, relay: StartRelay, server: Server
) -> None:
    events, goals = [f"e{i}" for i in range(150)], [f"g{i}" for i in range(150)]
    for number in range(150):
        capture(web, events[number])
        count(web, goals[number])
    for step in range(1, MAX_TAKEOVERS):  # once more, and a record that is sent at each kill may become a dead letter
        process = relay()
        server.wait_for(step * 12)
        process.kill()
        process.wait()

    # What was taken over twice is sent one by one.
    assert relay("--once").wait(60) == 0

    arrived, stats = names(server), web.stats().lanes
    assert {*events} <= arrived.keys()
    assert tally(stats["signal"]) == {"captured": 150, "delivered": 150}
    assert all(arrived[goal] <= 1 for goal in goals)
    assert len({*goals} - arrived.keys()) <= stats["sessionsight"].dead
    assert stats["sessionsight"].delivered + stats["sessionsight"].dead == 150


def test_two_relays_share_a_spool(web: Client, relay: StartRelay, server: Server) -> None:
    goals = [f"g{i}" for i in range(200)]
    processes = [relay(), relay()]
    for process in processes:
        wait_for_line(process, "signal: ")  # it handles signals
    count(web, *goals)
    server.wait_for(200)
    until(lambda: web.stats().lanes["sessionsight"].delivered == 200, "all are counted")
    assert names(server) == dict.fromkeys(goals, 1)
    for process in processes:
        process.terminate()
        finish(process)


# --- a spool that cannot be used ------------------------------------------------------------------


@pytest.mark.measured_processes
def test_a_relay_waits_for_its_spool(relay: StartRelay, environ: dict[str, str], folder: Path) -> None:
    environ["SESSIONSIGHT_SPOOL"] = f"sqlite:///{folder}/later/spool.db"
    process = relay()
    wait_for_line(process, "waiting for the spool")

    (folder / "later").mkdir()

    assert process.stderr is not None
    assert "records are kept in memory until it can be used" in process.stderr.readline()
    assert process.stderr.readline() == f"spool {folder}/later/spool.db can be used again\n"
    process.terminate()
    assert finish(process)[1] == ""  # the loss was logged once


@pytest.mark.measured_processes
def test_once_does_not_wait_for_its_spool(environ: dict[str, str], folder: Path) -> None:
    environ["SESSIONSIGHT_SPOOL"] = f"sqlite:///{folder}/none/spool.db"
    ran = start("relay", "--once", folder=folder, environ=environ)
    assert (ran.returncode, ran.stderr.splitlines()[-1]) == (
        1,
        f"Error: the spool cannot be used: [Errno 2] No such file or directory: '{folder}/none'",
    )


def test_a_relay_survives_a_restart_of_redis(
    relay: StartRelay, environ: dict[str, str], server: Server, folder: Path
) -> None:
    with run_redis(folder, appendonly="yes") as redis:
        environ["SESSIONSIGHT_SPOOL"] = redis.url
        destination = Signal(api_key="key", project_id="shop", endpoint=server.url)
        web = Client(Settings(destinations=(destination,), delivery="relay", spool=redis.url))
        process = relay()
        capture(web, "before")
        assert web.flush(20)
        server.wait_for(1)
        redis.stop()
        capture(web, "meanwhile")
        assert process.stderr is not None
        assert "records are kept in memory until it can be used" in process.stderr.readline()
        assert len(server.requests) == 1

        redis.start()
        assert web.flush(20)
        server.wait_for(2)
        assert names(server) == {"before": 1, "meanwhile": 1}
        until(lambda: web.stats().lanes["signal"].delivered == 2, "both are counted")
        process.terminate()
        # The maintenance does not notice a short outage.
        assert finish(process)[1] in {f"spool {redis.url} can be used again\n", ""}
        assert web.shutdown()


class Stub:
    """A relay that is idle, a display, and a stop after this number of turns."""

    waits_for_spool, idle = False, True

    def __init__(self, turns: int, *pending: int) -> None:
        self.read = 0
        self._turns = turns
        self._pending = [*pending]

    def wait(self, _: float) -> bool:
        self._turns -= 1
        return self._turns < 0

    def progress(self) -> list[LaneProgress]:
        self.read += 1
        ready = self._pending.pop(0) if self._pending else 0
        return [
            LaneProgress(name="signal", ready=ready, in_flight=0, delivered=0, dead=0, state="closed", last_error=None)
        ]

    def show(self, lanes: object) -> None:
        pass

    def check(self) -> None:
        pass


@pytest.mark.parametrize(
    ("turns", "once", "idle", "read"), [(9, False, True, 3), (9, False, False, 9), (9, True, True, 9)]
)
def test_the_progress_is_not_read_while_nothing_happens(turns: int, read: int, *, once: bool, idle: bool) -> None:
    stub: Any = Stub(turns, 2, 1)
    stub.idle = idle

    assert _watch(stub, stub, stub, once=once) is None

    assert stub.read == read


# --- metrics --------------------------------------------------------------------------------------


@pytest.mark.measured_processes
def test_metrics_are_served(web: Client, relay: StartRelay, server: Server) -> None:
    capture(web, "e")
    port = free_port()
    process = relay("--metrics", str(port))
    server.wait_for(1)
    until(lambda: web.stats().lanes["signal"].delivered == 1, "it is counted")

    found = scrape(f"http://127.0.0.1:{port}/metrics")

    assert found["sessionsight_records_delivered_total", "signal"] == 1
    with pytest.raises(urllib.error.HTTPError, match="404") as refused:
        scrape(f"http://127.0.0.1:{port}/")
    refused.value.close()
    process.terminate()
    assert finish(process)[1] == ""


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:0",
        "localhost:0",
        "0",
        pytest.param("[::1]:0", marks=pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")),
    ],
)
def test_an_address_may_have_several_forms(address: str) -> None:
    client = Client(Settings())
    with serve_metrics(address, client) as port:
        host = address.rpartition(":")[0] or "127.0.0.1"
        scrape(f"http://{host}:{port}/metrics?x=1")


@pytest.mark.parametrize("address", ["", "nonsense", "host", "host:port", "host:1/path", "127.0.0.1:70000"])
def test_an_invalid_address_is_rejected(web: Client, environ: dict[str, str], address: str) -> None:
    ran = run("relay", f"--metrics={address or ' '}", env=environ)
    assert (ran.exit_code, "is not of the form HOST:PORT" in ran.output) == (2, True)


def test_an_address_in_use_is_rejected(web: Client, environ: dict[str, str], server: Server) -> None:
    ran = run("relay", "--metrics", str(server.port), env=environ)
    assert (ran.exit_code, f"cannot listen on {server.port}" in ran.output) == (2, True)


def scrape(url: str) -> dict[tuple[str, str], float]:
    """Return metrics as Prometheus reads them, by name and destination."""
    with urllib.request.urlopen(url, timeout=20) as response:
        text = response.read().decode()
    return {
        (sample.name, sample.labels.get("destination", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


# --- check ----------------------------------------------------------------------------------------


def test_check_delivers_nothing(web: Client, environ: dict[str, str], server: Server) -> None:
    capture(web, "e")
    ran = run("relay", "--check", env=environ)
    assert (ran.exit_code, ran.output.splitlines()[-1]) == (0, "ok       relay         the spool can be used")
    assert not server.requests


def test_check_reports_a_spool_that_cannot_be_used(environ: dict[str, str], path: Path) -> None:
    path.write_text("another program's file")
    ran = run("relay", "--check", env=environ)
    assert (ran.exit_code, "error    relay         the spool cannot be used: file is not a database" in ran.output) == (
        1,
        True,
    )


@pytest.mark.measured_processes
@pytest.mark.parametrize(
    ("changed", "arguments", "message"),
    [
        ({"SESSIONSIGHT_SPOOL": "memory"}, (), "a relay needs a durable spool"),
        ({"SESSIONSIGHT_DISABLED": "1"}, (), "a relay has nothing to deliver"),
        ({"SIGNAL_API_KEY": "", "SESSIONSIGHT_SECRET_API_KEY": ""}, (), "a relay has nothing to deliver"),
        ({}, ("--lanes", "signl"), "unknown lane 'signl'; did you mean 'signal'?"),
        ({"SESSIONSIGHT_TESTING": "1"}, (), "nothing is delivered under a test: unset SESSIONSIGHT_TESTING"),
    ],
)
def test_a_relay_that_cannot_deliver_is_an_error(
    environ: dict[str, str], changed: dict[str, str], arguments: tuple[str, ...], message: str
) -> None:
    for check in ((), ("--check",)):
        ran = start("relay", *check, *arguments, folder=Path.cwd(), environ={**environ, **changed})
        assert ran.returncode == 1
        assert message in ran.stdout + ran.stderr


def test_a_relay_counts_from_zero_again_after_its_store_was_emptied(server: Server, tmp_path: Path) -> None:
    destination = Signal(api_key="key", project_id="shop", endpoint=server.url)
    with run_redis(tmp_path) as redis:
        settings = Settings(destinations=(destination,), delivery="relay", spool=redis.url, spool_timeout=20.0)
        web = Client(settings)
        web.bind(user_id="user_1").capture("paid")
        assert web.flush(PATIENCE)
        first, second = Relay(Client(settings)), Relay(Client(settings))
        first.start()
        until(lambda: first.progress()[0].delivered == 1, "it is delivered")
        assert not first.idle
        second.start()
        redis.command("FLUSHALL")
        assert second.progress()[0].delivered == 0
        web.bind(user_id="user_1").capture("paid")
        until(lambda: second.progress()[0].delivered == 1, "the next one is counted")
        for each in (web, first.client, second.client):
            each.shutdown(0)
