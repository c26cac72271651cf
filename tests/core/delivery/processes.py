"""Scripts that run in a process of their own: the code they share, how they are started, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.support.server import PATIENCE, Server

COMMON = """\
import atexit, ctypes, gc, logging, multiprocessing, os, signal, sys, threading, time
from sessionsight.client import Client
from sessionsight.destinations import SessionSight, Signal
from sessionsight.settings import Settings

URL = sys.argv[1]
AUTHORITY = os.environ["SSL_CERT_FILE"]  # those of the system, which take long to read, are not needed
LONG = 3600.0  # a wait that no test outlasts


def fork_in_c():
    # As servers written in C do: the interpreter's hooks do not run. The interpreter itself survives
    # that only while no other thread waits for its lock.
    def switches():
        found = {}
        for task in os.listdir("/proc/self/task"):
            if int(task) != threading.main_thread().native_id:
                with open(f"/proc/self/task/{task}/status") as status:
                    found[task] = [line for line in status if "ctxt_switches" in line]
        return found

    same, before = 0, switches()
    while same < 5:
        time.sleep(0.01)
        now = switches()
        same, before = same + 1 if now == before else 0, now
    return ctypes.PyDLL(None).fork()  # CDLL would release the interpreter's lock


def reap(pid):
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == 0, code


def forbid_threads():
    # As Python 3.12.0 to 3.12.2 behave in atexit.
    def start(thread):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    threading.Thread.start = start


"""
_IN_MEMORY = """\
logging.basicConfig(format="%(levelname)s %(message)s")


def make(*, name="signal", **options):
    if name == "signal":
        destination = Signal(api_key="key", endpoint=URL)
    else:
        destination = SessionSight(secret_api_key="key", property_id="shop", api_url=URL)
    # Several processes may end at the same time on a busy machine, and records cut off at the end would be lost.
    options = {"trust_env": False, "ca_bundle": AUTHORITY, "shutdown_timeout": 20.0, **options}
    return Client(Settings(destinations=(destination,), **options))


def capture(client, name):
    client.analytics.capture(name, user_id="user_1")


"""

# Forking while threads run is under test; Python 3.12+ warns of it.
_QUIET = ("-W", "ignore:This process:DeprecationWarning")

FORKS = pytest.mark.parametrize(
    "fork",
    [
        "os.fork",
        pytest.param(
            "fork_in_c",
            marks=pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc to wait for quiet"),
        ),
    ],
)
"""Runs a test once for each way to fork, as `fork`."""


def start(code: str, *arguments: str, covered: bool = True) -> subprocess.Popen[str]:
    """Start a process.

    Args:
        code: The whole program.
        *arguments: Those of its command line.
        covered: Measure coverage, where the test's processes are measured. It has a lock that is not re-entrant, so a
            program that captures in signal handlers or finalizers must not be measured.

    Returns:
        The process, with pipes for its input, output and errors.
    """
    hidden = () if covered else ("COVERAGE_",)
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", *_QUIET, "-c", code, *arguments],
        env={name: value for name, value in os.environ.items() if not name.startswith(hidden)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], *, code: int | None = 0) -> tuple[str, str]:
    """Wait for the end of a process, and return what it printed to its output and errors.

    Args:
        process: One that `start` returned.
        code: The exit code it must have; `None` is any.
    """
    try:
        out, err = process.communicate(timeout=3 * PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGABRT)  # prints the stacks of all threads of all forks
        out, err = process.communicate()
        raise AssertionError(f"the process does not end\n{out}\n{err}") from None
    assert code is None or process.returncode == code, err
    return out, err


def start_in_memory(script: str, server: Server, *, covered: bool = True) -> subprocess.Popen[str]:
    """Start a script that makes clients by `make(...)`, whose records wait in memory."""
    return start(COMMON + _IN_MEMORY + script, server.url, covered=covered)


def run(script: str, server: Server, *, covered: bool = True) -> tuple[str, str]:
    """Run a script as `start_in_memory` does, and return what it printed to its output and errors."""
    return finish(start_in_memory(script, server, covered=covered))


def names(server: Server) -> list[str]:
    """Return the events that have arrived, sorted."""
    return sorted(event["event"] for request in server.requests for event in request.json["events"])
