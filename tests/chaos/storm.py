"""Four vendors with random faults, and a client that captures for all of them; every record is accounted for."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import trustme

from sessionsight import Client, Settings
from sessionsight.delivery.httpx_transport import HttpxTransport
from sessionsight.destinations import Analyse, Saytics, SessionSight, Signal
from sessionsight.destinations.base import Destination
from tests.chaos.fates import REQUESTS, Fate, evenly
from tests.chaos.names import known
from tests.chaos.reckoning import HEADINGS, Account, Witness, row
from tests.chaos.vendor import POISON, Vendor

KEYS = {
    "sessionsight": "sessionsight_sec_of_the_storm",
    "signal": "signal_key_of_the_storm",
    "saytics": "sk_live_of_the_storm",
    "analyse": "pk_live_of_the_storm",
}
STORM = evenly(*REQUESTS, ok=0.5, slow=0.1)
"""Half of the requests succeed."""
UNTRUSTED = {**STORM, Fate.TLS_STRANGER: 0.2, Fate.TLS_BROKEN: 0.1, Fate.NO_NAME: 0.2}
"""The same, with failing connections."""
GOALS = "sessionsight"
"""The lane that counts goals; the others take events."""
WEATHER = {"sessionsight": STORM, "signal": STORM, "saytics": UNTRUSTED, "analyse": UNTRUSTED}
HASTE = {
    "linger": 0.002, "backoff_base": 0.001, "backoff_max": 0.02, "pause_interval": 0.05, "retry_after_max": 0.05,
    "read_timeout": 0.3, "connect_timeout": 1.0, "total_timeout": 0.6, "breaker_failures": 3,
    "queue_records": 1_000_000, "dead_letters": 1_000_000, "dedupe_keys": 1_000_000, "trust_env": False,
}  # fmt: skip
"""Settings with short delays and large bounds."""


@dataclass(frozen=True)
class Plan:
    """Parameters of a run."""

    seed: int
    visits: int
    """The number of visits, each of which captures an event and a goal; some do so twice with one key."""
    spool: str = "memory"
    goals_on_unknown: Literal["dead_letter", "retry"] = "dead_letter"
    visitors: int = 4
    """The number of threads that capture concurrently."""
    storm: float = 8.0
    """Seconds for which faults last at most after the last visit."""
    patience: float = 60.0
    """The timeout for delivery without faults, in seconds."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further settings."""


@dataclass
class Result:
    """Result of a run."""

    plan: Plan
    accounts: list[Account]
    fates: Counter[str]
    stolen: int
    drained: bool

    def problems(self) -> list[str]:
        """Return the violations."""
        problems = [problem for account in self.accounts for problem in account.problems()]
        if not self.drained:
            problems.append("not everything was delivered although the weather was calm")
        if self.stolen:
            problems.append(f"{self.stolen} requests followed a redirect, keys and all")
        return problems

    def __str__(self) -> str:
        plan = self.plan
        lines = [
            f"seed {plan.seed}, spool {plan.spool}, goals_on_unknown={plan.goals_on_unknown!r}",
            HEADINGS,
            *map(row, self.accounts),
            "what the vendors did: " + ", ".join(f"{fate} {number}" for fate, number in sorted(self.fates.items())),
            *self.problems(),
        ]
        return "\n".join(lines)


class Scene:
    """Four vendors and a client for them.

    Args:
        seed: Of the vendors' schedules.
        weather: Vendor to the weights of its fates; calm where nothing is said.
        folder: For files that are needed.
        gossip: Whether the vendors repeat our keys in whatever they have to object.
        **options: Settings, besides those of `HASTE`.
    """

    def __init__(
        self,
        seed: int,
        weather: Mapping[str, Mapping[Fate, float]],
        folder: Path,
        *,
        gossip: bool = False,
        **options: Any,
    ) -> None:
        authority = trustme.CA()
        self._bundle = str(folder / "authority.pem")
        authority.cert_pem.write_to_path(self._bundle)
        self._stack = ExitStack()
        self._witnesses: dict[str, Witness] = {}

        def vendor(name: str, **more: Any) -> Vendor:
            return self._stack.enter_context(Vendor(name, seed=seed, weights=weather.get(name), gossip=gossip, **more))

        self.vendors = {
            "sessionsight": vendor("sessionsight"),
            "signal": vendor("signal"),
            "saytics": vendor("saytics", host="saytics.invalid", authority=authority),
            "analyse": vendor("analyse", host="analyse.invalid", authority=authority),
        }
        self._stack.enter_context(known(*self.vendors.values()))
        urls = {name: each.url for name, each in self.vendors.items()}
        settings = Settings.from_mapping({**HASTE, "destinations": destinations(urls), **options})
        self.client = Client(settings, make_transport=self._transport)
        self._stack.callback(self.client.shutdown, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def calm(self) -> None:
        """Let all vendors succeed from now on, and resume all lanes."""
        for vendor in self.vendors.values():
            vendor.calm()
        self.client.resume()

    def account(self, lane: str, captured: Counter[str], *, repeats: bool) -> Account:
        """Outcomes of a lane for which this was captured."""
        return Account(
            lane=lane,
            stats=self.client.stats().lanes[lane],
            captured=captured,
            dead=[letter for letter in self.client.dead_letters() if letter.destination == lane],
            tries=self._witnesses[lane].tries if lane in self._witnesses else [],
            counted=self.vendors[lane].counted(),
            repeats=repeats,
        )

    def _transport(self, destination: Destination) -> Witness:
        connections = destination.limits.concurrency
        made = HttpxTransport(connections=connections, ca_bundle=self._bundle, trust_env=False)
        return self._witnesses.setdefault(destination.name, Witness(made))


def run(plan: Plan, folder: Path) -> Result:
    """Capture while the vendors fail, then let them succeed, and account for every record."""
    options = {"spool": plan.spool, "goals_on_unknown": plan.goals_on_unknown, **plan.options}
    with Scene(plan.seed, WEATHER, folder, **options) as scene:
        events, goals = visit(scene.client, plan)
        scene.client.flush(plan.storm)
        scene.calm()
        drained = scene.client.flush(plan.patience)
        at_most_once = plan.goals_on_unknown == "dead_letter"
        accounts = [
            scene.account(name, goals if name == GOALS else events, repeats=name != GOALS or not at_most_once)
            for name in scene.vendors
        ]
        fates = Counter(str(fate) for each in scene.vendors.values() for fate in each.fates().elements())
        stolen = sum(each.stolen for each in scene.vendors.values())
        return Result(plan, accounts, fates, stolen, drained)


def destinations(urls: Mapping[str, str]) -> list[Destination]:
    """Return all four vendors, with small batches so that many requests are made."""
    return [
        SessionSight(secret_api_key=KEYS["sessionsight"], property_id="shop", api_url=urls["sessionsight"]),
        Signal(api_key=KEYS["signal"], project_id="shop", endpoint=urls["signal"], batch_size=7),
        Saytics(
            secret_key=KEYS["saytics"], api_url=urls["saytics"], plan="enterprise", batch_size=7,
            calls_per_minute=1_000_000,
        ),
        Analyse(public_key=KEYS["analyse"], host=urls["analyse"], batch_size=7),
    ]  # fmt: skip


def visit(client: Client, plan: Plan, *, first: int = 0) -> tuple[Counter[str], Counter[str]]:
    """Capture in several threads, and return the tokens of events and of goals with their counts.

    Args:
        client: Captures.
        plan: How many come, by how many threads.
        first: The number of the first visit.
    """
    events: Counter[str] = Counter()
    goals: Counter[str] = Counter()
    lock = threading.Lock()

    def come(visitor: int) -> None:
        for number in range(first + visitor, first + plan.visits, plan.visitors):
            poison = number % 50 == 49
            kind = POISON if poison else "token-plain-"
            key = f"order:{number}" if number % 10 == 3 else None
            times = 2 if key else 1
            for _ in range(times):
                client.analytics.capture(f"{kind}{number}", {"rows": number}, user_id=f"user_{visitor}", key=key)
                client.analytics.goals.increment(f"{kind}{number}", session_id="6f1d2c3b", key=key)
            with lock:
                events[f"{kind}{number}"] += times
                goals[f"{kind}{number}"] += times

    visitors = [threading.Thread(target=come, args=(number,)) for number in range(plan.visitors)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    return events, goals
