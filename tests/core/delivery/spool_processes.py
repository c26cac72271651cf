"""Processes that share a spool in a file."""

from __future__ import annotations

import gzip
import json
import subprocess
from collections import Counter
from pathlib import Path

from sessionsight.client import Client
from sessionsight.destinations import SessionSight, Signal
from sessionsight.settings import Settings
from tests.core.delivery import processes
from tests.core.delivery.spools import counts, sqlite_spool
from tests.support.server import Server

PRELUDE = (
    processes.COMMON
    + """\
import sqlite3

SPOOL = sys.argv[2]


def make(**options):
    destinations = (
        Signal(api_key="key", endpoint=URL),
        SessionSight(secret_api_key="key", property_id="shop", api_url=URL),
    )
    options = {"spool_timeout": 20.0, "shutdown_timeout": 20.0, **options}
    options = {"destinations": destinations, "trust_env": False, "ca_bundle": AUTHORITY, **options}
    return Client(Settings(spool=SPOOL if "://" in SPOOL else f"sqlite:///{SPOOL}", **options))


def capture(client, name):
    client.analytics.capture(name, user_id="user_1")
    os.write(1, f"{name}\\n".encode())  # acknowledged


def increment(client, name):
    client.analytics.goals.increment(name, session_id="s1")
    os.write(1, f"{name}\\n".encode())


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(number):
    # At the statement of this number that the spool's connections run from now on.
    left = [number]
    connect = sqlite3.connect

    def count(statement):
        left[0] -= 1
        if not left[0]:
            die()

    def connected(*arguments, **options):
        connection = connect(*arguments, **options)
        connection.set_trace_callback(count)
        return connection

    sqlite3.connect = connected


"""
)
LANES = ("signal", "sessionsight")


def start(script: str, server: Server, path: Path | str, *, patch: str = "") -> subprocess.Popen[str]:
    """Start a script that makes clients by `make(...)`, whose records wait in the spool.

    Args:
        script: The program.
        server: The vendor.
        path: The file, or a URL.
        patch: Code that runs before the first import.
    """
    return processes.start(patch + PRELUDE + script, server.url, str(path))


def finish(process: subprocess.Popen[str], *, code: int | None = 0) -> list[str]:
    """Wait for the end of a process, and return the words that it printed."""
    return processes.finish(process, code=code)[0].split()


def deliver(server: Server, path: Path | str) -> None:
    """Deliver what is left in the spool, as the next process, which is this one."""
    destinations = (
        Signal(api_key="key", endpoint=server.url),
        SessionSight(secret_api_key="key", property_id="shop", api_url=server.url),
    )
    spool = str(path) if "://" in str(path) else f"sqlite:///{path}"
    client = Client(Settings(destinations=destinations, spool=spool, spool_timeout=20.0, trust_env=False))
    assert client.flush(20)
    assert client.shutdown(20)


def names(server: Server) -> Counter[str]:
    """Count how often each event and goal has arrived."""
    found: Counter[str] = Counter()
    for request in server.requests:
        if len(request.body) != int(request.headers["content-length"]):
            continue  # its sender died meanwhile
        packed = request.headers.get("content-encoding") == "gzip"
        body = json.loads(gzip.decompress(request.body) if packed else request.body)
        found.update([event["event"] for event in body["events"]] if "events" in body else [body["goalId"]])
    return found


def ledgers(path: Path) -> dict[str, dict[str, int]]:
    """Return the counts of each lane in the file."""
    spool = sqlite_spool(path, *LANES)
    found = {lane: counts(spool.lane(lane)) for lane in LANES}
    for lane in LANES:
        spool.lane(lane).close()
    spool.close()
    return found
