"""`manage.py sessionsight relay` in processes of its own, beside an app that writes to its database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.adapters.outbox_databases import ENGINES, outbox_database, outbox_store
from tests.support.suites import WITHOUT_TRIO

# isort: split
from django.core.management import call_command
from django.db import connections, transaction

from sessionsight import Client, Settings
from sessionsight.destinations import SessionSight, Signal
from sessionsight.stores import DeadLetterQuery
from sessionsight_django import clients
from tests.core.delivery.kit import tally
from tests.core.delivery.spool_processes import names
from tests.support.server import Server, after, reply, until

pytestmark = pytest.mark.processes

StartRelay = Callable[..., "subprocess.Popen[str]"]

PROJECT = """
import os
import time
from importlib.util import find_spec
if not find_spec("MySQLdb"):
    import pymysql
    pymysql.install_as_MySQLdb()
real_time, offset = time.time, float(os.environ.get("CLOCK_OFFSET", "0"))
time.time = lambda: real_time() + offset
DATABASES = {databases!r}
INSTALLED_APPS = ["sessionsight_django", "sessionsight_django.outbox"]
MIDDLEWARE = ["sessionsight_django.AnalyticsMiddleware"]
SECRET_KEY = "test"
SESSIONSIGHT = {{
    "DESTINATIONS": {{
        "signal": {{"api_key": "key", "project_id": "shop", "endpoint": {url!r}}},
        "sessionsight": {{"secret_api_key": "key", "property_id": "shop", "api_url": {url!r}}},
    }},
    "SPOOL": "django",
    "DELIVERY": "relay",
}}
"""


@pytest.fixture(params=ENGINES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with outbox_database(request.param, tmp_path, "default", migrate=False) as alias:
        yield alias


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def web(server: Server, database: str) -> Iterator[Client]:
    """The client of a process that only writes."""
    destinations = (
        Signal(api_key="key", project_id="shop", endpoint=server.url),
        SessionSight(secret_api_key="key", property_id="shop", api_url=server.url),
    )
    client = Client(Settings(destinations=destinations, delivery="relay", spool="django", spool_timeout=20.0))
    client.join_transaction = clients._join_transaction(client.settings)
    yield client
    client.shutdown(0)


@pytest.fixture
def relay(server: Server, database: str, tmp_path: Path) -> Iterator[StartRelay]:
    """Starts relays, which are killed after the test."""
    kept = ("ENGINE", "NAME", "HOST", "PORT", "USER", "PASSWORD", "OPTIONS")
    settings = {name: connections.settings[database].get(name, "") for name in kept}
    (tmp_path / "project.py").write_text(PROJECT.format(databases={"default": settings}, url=server.url), "utf-8")
    started: list[subprocess.Popen[str]] = []

    def start_relay(*arguments: str, clock_offset: float = 0.0) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "django", "sessionsight", "relay", *arguments],
            cwd=tmp_path,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "project",
                "PYTHONPATH": f"{tmp_path}:{WITHOUT_TRIO}",
                "CLOCK_OFFSET": str(clock_offset),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start_relay
    for process in started:
        process.kill()
        process.communicate()


def test_a_relay_waits_for_the_tables_and_delivers_what_was_committed(
    web: Client, relay: StartRelay, server: Server
) -> None:
    process = relay()
    assert process.stderr is not None
    assert "run manage.py migrate" in process.stderr.readline()
    call_command("migrate", "sessionsight_outbox", verbosity=0)
    with transaction.atomic():
        web.analytics.capture("first", user_id="user_1")
    server.wait_for(1)
    web.analytics.capture("second", user_id="user_1")
    server.wait_for(2)
    until(lambda: tally(web.stats().lanes["signal"]) == {"captured": 2, "delivered": 2}, "both are counted")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def test_what_a_killed_relay_had_in_flight_is_known_to_the_next(
    web: Client, relay: StartRelay, server: Server, database: str
) -> None:
    call_command("migrate", "sessionsight_outbox", verbosity=0)
    with transaction.atomic():
        for number in range(20):
            web.analytics.goals.increment(f"g{number}", session_id="s1")
    server.answer = after(threading.Event(), reply(200))
    process = relay()
    server.wait_for(8)
    process.kill()
    process.wait(60)
    in_flight = set(names(server))
    server.answer = reply(200)
    # Instead of waiting for the end of its lease.
    with connections[database].cursor() as cursor:
        cursor.execute("UPDATE sessionsight_owner SET expires_at = 0")

    assert relay("--once").wait(60) == 0

    store = outbox_store(database)
    letters = store.find(DeadLetterQuery(reason="unknown"))
    assert len(letters) >= len(in_flight) == 8
    assert {**names(server)} == dict.fromkeys(names(server), 1)
    counted = tally(web.stats().lanes["sessionsight"])
    assert counted == {"captured": 20, "delivered": 20 - len(letters), "dead": len(letters)}
    store.close()


def buy(web: Client, first: int, last: int) -> None:
    """Capture events and goals in one transaction."""
    with transaction.atomic():
        for number in range(first, last):
            web.analytics.goals.increment(f"g{number}", session_id="s1")
            web.analytics.capture(f"e{number}", user_id="user_1")


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)  # SQLite is for one relay
def test_a_relay_that_was_stopped_for_longer_than_its_lease_sends_no_goal_twice(
    web: Client, relay: StartRelay, server: Server, database: str
) -> None:
    call_command("migrate", "sessionsight_outbox", verbosity=0)
    buy(web, 0, 40)
    continued = threading.Event()
    server.answer = after(continued, reply(200))
    stopped = relay()
    server.wait_for(9)  # both vendors are busy
    stopped.send_signal(signal.SIGSTOP)
    os.waitpid(stopped.pid, os.WUNTRACED)
    # Instead of waiting for the end of its lease.
    with connections[database].cursor() as cursor:
        cursor.execute("UPDATE sessionsight_owner SET expires_at = 0")
    server.answer = reply(200)
    assert relay("--once").wait(60) == 0
    continued.set()
    stopped.send_signal(signal.SIGCONT)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(60) == 0

    arrived = names(server)
    store = outbox_store(database)
    dead = len(store.find(DeadLetterQuery(reason="unknown")))
    assert {f"e{number}" for number in range(40)} <= arrived.keys()
    goals = {name: times for name, times in arrived.items() if name.startswith("g")}
    assert goals == dict.fromkeys(goals, 1)
    assert 40 - len(goals) <= dead <= 40  # those in flight may have arrived
    assert tally(web.stats().lanes["sessionsight"]) == {"captured": 40, "delivered": 40 - dead, "dead": dead}
    assert tally(web.stats().lanes["signal"]) == {"captured": 40, "delivered": 40}
    store.close()


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_relays_whose_clocks_differ_by_hours_leave_each_others_records_alone(
    web: Client, relay: StartRelay, server: Server, database: str
) -> None:
    call_command("migrate", "sessionsight_outbox", verbosity=0)
    buy(web, 0, 10)
    continued = threading.Event()
    server.answer = after(continued, reply(200))
    behind = relay(clock_offset=-3600.0)
    server.wait_for(9)
    server.answer = reply(200)
    before = len(server.requests)
    ahead = relay(clock_offset=3600.0)
    buy(web, 10, 20)
    until(lambda: {"e19", "g19"} <= names(server).keys(), "the other relay has sent what is new")
    assert len(server.requests) > before
    continued.set()
    until(lambda: not any(lane.pending for lane in web.stats().lanes.values()), "all records are delivered")
    for process in (behind, ahead):
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0

    expected = {f"{kind}{number}" for kind in "eg" for number in range(20)}
    assert {**names(server)} == dict.fromkeys(expected, 1)
    for lane in ("signal", "sessionsight"):
        assert tally(web.stats().lanes[lane]) == {"captured": 20, "delivered": 20}
