"""Web processes that only enqueue, a Redis server, and two relays, of which one is killed and the other is stopped.

What holds: a visit that was served to the end is delivered or accounted for, and no goal is counted twice, also by a
relay that continues after its claims were taken over.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from sessionsight import Client, Settings
from sessionsight.delivery.stats import LaneStats
from sessionsight.delivery.stores.base import DeadLetter
from tests.chaos import kill
from tests.chaos.site import settings
from tests.chaos.vendor import Vendor
from tests.support.ports import free_port

_POLL = 0.2


@dataclass(frozen=True)
class Plan:
    """Parameters of a run."""

    seed: int
    spool: str
    visits: int
    pace: float
    """Visits per second."""
    away: float = 60.0
    """Seconds for which a relay is dead, and then the other one stopped. The lease of a claim is half of that."""
    patience: float = 120.0
    """Seconds within which the relays must deliver the rest after the last visit."""


class Lane(kill.Lane):
    """The figures of one lane, whose events may be sent again by the relay that takes a stopped one's place."""

    def wrongly_repeated(self) -> set[str]:
        """Return nothing: what the stopped relay had in hand when it was stopped cannot be told from outside."""
        return set()


def run(plan: Plan, folder: Path) -> kill.Result:
    """Serve all visits, let relays fail meanwhile, wait until the others have delivered everything, and count."""
    begun = time.monotonic()
    site = kill.Plan(plan.seed, plan.visits * 5, plan.spool, workers=2, pace=plan.pace, patience=plan.patience)
    with ExitStack() as stack:
        goals, events = (
            stack.enter_context(Vendor(name, seed=plan.seed, weights=kill.HALF_DOWN, patience=kill.PATIENCE))
            for name in ("sessionsight", "signal")
        )
        environ = {
            "CHAOS_SPOOL": plan.spool,
            "CHAOS_GOALS": goals.url,
            "CHAOS_EVENTS": events.url,
            "CHAOS_DELIVERY": "relay",
        }
        port = free_port()
        stack.enter_context(kill._gunicorn(site, port, environ, folder))
        relays = stack.enter_context(_relays(environ, folder))
        faults = stack.enter_context(_faults(relays, plan))
        visitors = stack.enter_context(kill._visitors(site, port, folder))
        assert visitors.wait(plan.visits / plan.pace + plan.patience) == 0, "the visitors gave up"
        served, cut = kill._read(folder / "visits")
        faults.join()
        told = replace(settings(plan.spool, goals.url, events.url), delivery="relay")
        stats, dead = _delivered(told, plan.patience)
        lanes: list[kill.Lane] = [
            Lane(name, tokens(served), tokens(cut), stats[name], dead[name], vendor, relays.killed)
            for name, vendor, tokens in (("sessionsight", goals, kill._goals_of), ("signal", events, kill._events_of))
        ]
        seconds = time.monotonic() - begun
        fates = goals.fates() + events.fates()
        return kill.Result(site, lanes, len(served), len(cut), len(relays.killed), seconds, fates)


class Relays:
    """Two relays, by number."""

    def __init__(self, environ: dict[str, str], folder: Path) -> None:
        self._environ = {**os.environ, **environ}
        self._log = (folder / "relays.log").open("wb")
        self.killed: set[str] = set()
        self.processes = [self._start(), self._start()]

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "sessionsight", "relay", "--app", "tests.chaos.site:app"]
        return subprocess.Popen(command, env=self._environ, stdout=self._log, stderr=self._log)

    def kill(self, number: int) -> None:
        """End a relay by SIGKILL."""
        self.processes[number].kill()
        self.processes[number].wait()
        self.killed.add(str(self.processes[number].pid))

    def restart(self, number: int) -> None:
        """Start a relay in place of one that has ended."""
        self.processes[number] = self._start()

    def signal(self, number: int, what: signal.Signals) -> None:
        """Send a signal to a relay."""
        self.processes[number].send_signal(what)

    def close(self) -> None:
        """End both."""
        for process in self.processes:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self.processes:
            process.wait(30)
        self._log.close()


@contextmanager
def _relays(environ: dict[str, str], folder: Path) -> Iterator[Relays]:
    relays = Relays(environ, folder)
    try:
        yield relays
    finally:
        relays.close()


@contextmanager
def _faults(relays: Relays, plan: Plan) -> Iterator[threading.Thread]:
    """Kill one relay and stop the other one, one after the other."""
    over = threading.Event()
    pause = plan.visits / plan.pace / 20
    steps: list[tuple[float, Callable[[], None]]] = [
        (pause, lambda: relays.kill(0)),
        (plan.away, lambda: relays.restart(0)),
        (pause, lambda: relays.signal(1, signal.SIGSTOP)),
        (plan.away, lambda: relays.signal(1, signal.SIGCONT)),
    ]

    def fail() -> None:
        for seconds, step in steps:
            if over.wait(seconds):
                return
            step()

    thread = threading.Thread(target=fail)
    thread.start()
    try:
        yield thread
    finally:
        over.set()
        thread.join()


def _delivered(told: Settings, patience: float) -> tuple[dict[str, LaneStats], dict[str, list[DeadLetter]]]:
    """Return the spool's counters once the relays have delivered everything."""
    client = Client(told)
    try:
        deadline = time.monotonic() + patience
        while any(lane.pending for lane in client.stats().lanes.values()) and time.monotonic() < deadline:
            time.sleep(_POLL)
        dead: dict[str, list[DeadLetter]] = {name: [] for name in kill.CONCURRENCY}
        for letter in client.dead_letters():
            dead[letter.destination].append(letter)
        return client.stats().lanes, dead
    finally:
        client.shutdown(0)
