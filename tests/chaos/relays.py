"""Two relays that are killed by -9 at random points, in turns, while another process writes.

What holds: a record whose write has returned is delivered or accounted for, and no goal is counted twice.
"""

from __future__ import annotations

import random
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from sessionsight import Client, Settings
from tests.chaos import fleet, kill
from tests.chaos.site import event_tokens, goal_token, settings
from tests.chaos.vendor import Vendor


@dataclass(frozen=True)
class Plan:
    """Parameters of a run."""

    seed: int
    spool: str
    kills: int
    pace: float = 15.0
    """Visits per second, of four events and a goal each, until the last kill."""
    longest: float = 1.0
    """The longest time between a relay's first call and its end, in seconds. Every fourth is killed earlier."""
    patience: float = 240.0
    """Seconds within which the relays must deliver the rest. In Redis the lease of the last killed ones is 30."""


@dataclass
class Result(kill.Result):
    """The figures of a run."""

    interrupted: int = 0
    """Relays that had made a call when they were killed."""

    def __str__(self) -> str:
        """Return the figures as text."""
        _, _, _, *figures = super().__str__().split("\n")
        calls = self.fates.total()
        spool = self.plan.spool.partition(":")[0]
        head = [
            f"seed {self.plan.seed}, spool {spool}, {self.kills} relays killed, {self.interrupted} after a call",
            f"{self.served} visits, {calls} calls, {self.seconds:.1f} s in all",
        ]
        return "\n".join([*head, *figures])


def run(plan: Plan, folder: Path) -> Result:
    """Write until the last kill, wait until the relays have delivered everything, and count."""
    begun = time.monotonic()
    with ExitStack() as stack:
        goals, events = (
            stack.enter_context(Vendor(name, seed=plan.seed, weights=kill.HALF_DOWN, patience=kill.PATIENCE))
            for name in ("sessionsight", "signal")
        )
        environ = {"CHAOS_SPOOL": plan.spool, "CHAOS_GOALS": goals.url, "CHAOS_EVENTS": events.url}
        relays = stack.enter_context(fleet._relays(environ, folder))
        told = replace(settings(plan.spool, goals.url, events.url), delivery="relay")
        killer = threading.Thread(target=_kill, args=(relays, plan, (goals, events)))
        killer.start()
        visits = _write(told, killer, plan.pace)
        stats, dead = fleet._delivered(told, plan.patience)
        lanes: list[kill.Lane] = [
            fleet.Lane(name, tokens(visits), set(), stats[name], dead[name], vendor, relays.killed)
            for name, vendor, tokens in (("sessionsight", goals, kill._goals_of), ("signal", events, kill._events_of))
        ]
        senders = {visit.worker for vendor in (goals, events) for visit in vendor.diary}
        return Result(
            kill.Plan(plan.seed, len(visits) * 5, plan.spool, workers=2),
            lanes,
            served=len(visits),
            cut=0,
            kills=len(relays.killed),
            seconds=time.monotonic() - begun,
            fates=goals.fates() + events.fates(),
            interrupted=len(relays.killed & senders),
        )


def _kill(relays: fleet.Relays, plan: Plan, vendors: tuple[Vendor, ...]) -> None:
    """Kill one relay after the other, and start another one in its place."""
    chance = random.Random(f"{plan.seed}: kills")
    for number in range(plan.kills):
        pid = str(relays.processes[number % 2].pid)
        if number % 4:
            deadline = time.monotonic() + 20
            while not any(visit.worker == pid for vendor in vendors for visit in vendor.diary[-200:]):
                if time.monotonic() > deadline:
                    break
                time.sleep(0.01)
        time.sleep(chance.uniform(0, plan.longest))
        relays.kill(number % 2)
        relays.restart(number % 2)


def _write(told: Settings, killer: threading.Thread, pace: float) -> list[int]:
    """Write visits until the last kill, and return their numbers."""
    client = Client(told)
    visits: list[int] = []
    try:
        while killer.is_alive():
            visit = len(visits)
            for token in event_tokens(visit):
                client.analytics.capture(token, {"visit": visit}, user_id="user_1")
            client.analytics.goals.increment(goal_token(visit), session_id="6f1d2c3b")
            visits.append(visit)
            time.sleep(1 / pace)
    finally:
        assert client.shutdown(20), "the writer has records in memory"
    return visits
