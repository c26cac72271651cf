"""A site under load whose workers share a spool and are killed with SIGKILL from time to time.

What holds: a visit that was served to the end is delivered or accounted for; nothing is counted twice unless its worker
died before it could write down that it had been.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sessionsight import Client, Settings
from sessionsight.delivery.stats import LaneStats
from sessionsight.delivery.stores.base import DeadLetter
from tests.chaos.fates import Fate, evenly
from tests.chaos.site import EVENTS_OF_A_VISIT, event_tokens, goal_token, settings
from tests.chaos.vendor import Vendor
from tests.support.ports import free_port

HALF_DOWN = evenly(
    Fate.BROKEN, Fate.GATEWAY, Fate.BUSY_SECONDS, Fate.BUSY, Fate.TOO_LARGE, Fate.RESET_AFTER, Fate.RESET_BEFORE,
    Fate.HANG_UP, Fate.GARBAGE, Fate.CUT_HEAD, ok=0.5,
) | {Fate.OK: 0.2, Fate.LATE: 0.3}  # fmt: skip
"""The vendor fails half the time, and is slow enough that kills hit calls in flight."""
PATIENCE = 0.2
"""The timeout in seconds."""
CONCURRENCY = {"sessionsight": 8, "signal": 1}


@dataclass(frozen=True)
class Plan:
    """Parameters of a run."""

    seed: int
    captures: int
    spool: str
    workers: int = 4
    threads: int = 4
    kill_every: float = 1.0
    """Seconds between two kills."""
    kills: int | None = None
    """The largest number of kills; by default until everything is delivered."""
    pace: float | None = None
    """Visits per second; by default as many as the site serves."""
    patience: float = 600.0
    """The timeout for delivery after the last visit, in seconds."""

    @property
    def visits(self) -> int:
        """Return the number of visits that capture this many records."""
        return self.captures // (EVENTS_OF_A_VISIT + 1)


@dataclass
class Lane:
    """The figures of one lane."""

    name: str
    served: set[str]
    """Tokens of visits with a complete response."""
    cut: set[str]
    """Tokens of visits with an incomplete response."""
    stats: LaneStats
    dead: list[DeadLetter]
    vendor: Vendor
    killed: set[str]

    def __post_init__(self) -> None:
        self.counted = self.vendor.counted()
        self.dead_tokens = Counter(letter.entry.record.label for letter in self.dead)

    def lost(self) -> set[str]:
        """Captured records that are neither delivered nor kept."""
        return self.served - self.counted.keys() - self.dead_tokens.keys()

    def twice(self) -> set[str]:
        """Records that the vendor received more than once."""
        return {token for token, number in self.counted.items() if number > 1}

    def wrongly_repeated(self) -> set[str]:
        """Records that were sent again although their worker had received the response.

        A worker that was killed may have had as many answers in hand, unread, as it makes calls at a time.
        """
        answers = Counter(visit.worker for visit in self.vendor.diary if visit.told is not None)
        rank: Counter[str] = Counter()
        told = [visit for visit in self.vendor.diary if visit.told is not None]
        settled: dict[str, int] = {}
        for visit in sorted(told, key=lambda visit: visit.told or 0):
            rank[visit.worker] += 1
            in_hand = answers[visit.worker] - rank[visit.worker] < CONCURRENCY[self.name]
            if not (visit.worker in self.killed and in_hand):
                for token in visit.tokens:
                    settled.setdefault(token, visit.number)
        return {
            token
            for visit in self.vendor.diary
            for token in visit.tokens
            if token in settled and settled[token] < visit.number
        }

    def problems(self) -> list[str]:
        """Return the violations."""
        stats, problems = self.stats, []
        if not stats.balanced:
            problems.append(f"the ledger does not add up: {stats}")
        if stats.pending:
            problems.append(f"{stats.pending} records are still pending")
        if not len(self.served) <= stats.captured <= len(self.served) + len(self.cut):
            problems.append(
                f"{len(self.served)} records were captured for certain and {len(self.cut)} perhaps, the ledger has "
                f"{stats.captured}"
            )
        if stats.dead != len(self.dead):
            problems.append(f"there are {len(self.dead)} dead letters, the ledger has {stats.dead}")
        if stats.dropped:
            problems.append(f"records were dropped, although there was room: {stats.dropped}")
        if lost := self.lost():
            problems.append(f"{len(lost)} records are lost: {sorted(lost)[:5]}")
        if repeated := self.wrongly_repeated():
            problems.append(f"{len(repeated)} records were sent again after they were taken: {sorted(repeated)[:5]}")
        if self.name == "sessionsight" and (twice := self.twice()):
            problems.append(f"{len(twice)} goals were counted twice: {sorted(twice)[:5]}")
        if buried := [token for token, number in self.dead_tokens.items() if number > 1]:
            problems.append(f"{len(buried)} records have two dead letters: {buried[:5]}")
        return [f"{self.name}: {problem}" for problem in problems]


@dataclass
class Result:
    """Result of a run."""

    plan: Plan
    lanes: list[Lane]
    served: int
    cut: int
    kills: int
    seconds: float
    fates: Counter[Fate]

    def problems(self) -> list[str]:
        """Return the violations."""
        return [problem for lane in self.lanes for problem in lane.problems()]

    def __str__(self) -> str:
        plan, row = self.plan, "{:<13} {:>9} {:>9} {:>10} {:>8} {:>7} {:>8} {:>5} {:>14} {:>7}"
        ok = (self.fates[Fate.OK] + self.fates[Fate.LATE]) / max(self.fates.total(), 1)
        reasons = {lane.name: dict(Counter(letter.reason for letter in lane.dead)) for lane in self.lanes}
        lines = [
            f"seed {plan.seed}, spool {plan.spool.partition(':')[0]}, {plan.workers} workers of {plan.threads} threads",
            f"{self.served} visits served to the end, {self.cut} broken off, {self.kills} workers killed",
            f"{self.fates.total()} calls of which {ok:.0%} went well, {self.seconds:.1f} s in all",
            row.format(
                "lane",
                "served",
                "captured",
                "delivered",
                "pending",
                "dead",
                "dropped",
                "lost",
                "counted twice",
                "wrongly",
            ),
        ]
        for lane in self.lanes:
            stats = lane.stats
            ledger = (stats.captured, stats.delivered, stats.pending, stats.dead, sum(stats.dropped.values()))
            doubts = (len(lane.lost()), len(lane.twice()), len(lane.wrongly_repeated()))
            lines.append(row.format(lane.name, len(lane.served), *ledger, *doubts))
        return "\n".join([*lines, f"dead letters by reason: {reasons}", *self.problems()])


def run(plan: Plan, folder: Path) -> Result:
    """Serve all visits, kill workers meanwhile, wait until everything is delivered, and count records."""
    begun = time.monotonic()
    with ExitStack() as stack:
        goals = stack.enter_context(Vendor("sessionsight", seed=plan.seed, weights=HALF_DOWN, patience=PATIENCE))
        events = stack.enter_context(Vendor("signal", seed=plan.seed, weights=HALF_DOWN, patience=PATIENCE))
        environ = {"CHAOS_SPOOL": plan.spool, "CHAOS_GOALS": goals.url, "CHAOS_EVENTS": events.url}
        port = free_port()
        master = stack.enter_context(_gunicorn(plan, port, environ, folder))
        visitors = stack.enter_context(_visitors(plan, port, folder))
        with _kills(master, plan) as killed:
            assert visitors.wait(plan.patience) == 0, "the visitors gave up"
            served, cut = _read(folder / "visits")
            stats, dead = _drained(plan, settings(plan.spool, goals.url, events.url))
        seconds = time.monotonic() - begun
        lanes = [
            Lane(name, tokens(served), tokens(cut), stats[name], dead[name], vendor, killed)
            for name, vendor, tokens in (("sessionsight", goals, _goals_of), ("signal", events, _events_of))
        ]
        return Result(plan, lanes, len(served), len(cut), len(killed), seconds, goals.fates() + events.fates())


def _goals_of(visits: list[int]) -> set[str]:
    return {goal_token(visit) for visit in visits}


def _events_of(visits: list[int]) -> set[str]:
    return {token for visit in visits for token in event_tokens(visit)}


@contextmanager
def _gunicorn(plan: Plan, port: int, environ: dict[str, str], folder: Path) -> Iterator[int]:
    """Start the site with its workers, and yield the master's pid."""
    command = [
        sys.executable, "-m", "gunicorn", "tests.chaos.site:app", "--bind", f"127.0.0.1:{port}",
        "--worker-class", "gthread", "--workers", str(plan.workers), "--threads", str(plan.threads),
        "--graceful-timeout", "10", "--log-level", "critical", "--no-control-socket",
    ]  # fmt: skip
    with (folder / "gunicorn.log").open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **environ}, stdout=log, stderr=log)
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            for pid in (*_children(process.pid), process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()


@contextmanager
def _visitors(plan: Plan, port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    arguments = [str(port), str(plan.visits), str(plan.workers * 2), str(folder / "visits")]
    arguments += [str(plan.pace)] if plan.pace else []
    process = subprocess.Popen([sys.executable, "-m", "tests.chaos.visitors", *arguments])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def _kills(master: int, plan: Plan) -> Iterator[set[str]]:
    """Kill a worker from time to time, and return the pids of the killed ones."""
    chance = random.Random(f"{plan.seed}: kills")
    killed: set[str] = set()
    enough = threading.Event()

    def kill() -> None:
        while not enough.wait(plan.kill_every) and (plan.kills is None or len(killed) < plan.kills):
            if workers := _children(master):
                pid = chance.choice(workers)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.add(str(pid))

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield killed
    finally:
        enough.set()
        killer.join()


def _children(pid: int) -> list[int]:
    """Return the child processes that have started working; Linux only."""
    try:
        return sorted(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except OSError:
        return []


def _read(file: Path) -> tuple[list[int], list[int]]:
    served, cut = (list(map(int, line.split())) for line in file.read_text().split("\n"))
    return served, cut


def _drained(plan: Plan, told: Settings) -> tuple[dict[str, LaneStats], dict[str, list[DeadLetter]]]:
    """Return the spool's counters once nothing is pending."""
    client = Client(told)
    try:
        deadline = time.monotonic() + plan.patience
        while any(lane.pending for lane in client.stats().lanes.values()) and time.monotonic() < deadline:
            client.flush(1.0)
            time.sleep(0.1)
        dead: dict[str, list[DeadLetter]] = defaultdict(list)
        for letter in client.dead_letters():
            dead[letter.destination].append(letter)
        return client.stats().lanes, dead
    finally:
        client.shutdown(0)
