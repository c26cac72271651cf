"""Four vendors in every weather, and a client that captures for all of them; at the end every record is asked for."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import trustme

from sessionsight import Client, Settings
from sessionsight.delivery.transport import HttpxTransport
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
"""Half of the requests go well."""
UNTRUSTED = {**STORM, Fate.TLS_STRANGER: 0.2, Fate.TLS_BROKEN: 0.1, Fate.NO_NAME: 0.2}
"""And connections fail besides."""
HASTE = {
    "linger": 0.002, "backoff_base": 0.001, "backoff_max": 0.02, "pause_interval": 0.05, "retry_after_max": 0.05,
    "read_timeout": 0.3, "connect_timeout": 1.0, "total_timeout": 0.6, "breaker_failures": 3,
    "queue_records": 1_000_000, "dead_letters": 1_000_000, "dedupe_keys": 1_000_000, "trust_env": False,
}  # fmt: skip
"""Settings under which nothing takes long, and nothing is dropped for want of room."""


@dataclass(frozen=True)
class Plan:
    """What a run does."""

    seed: int
    visits: int
    """Each captures an event and a goal."""
    spool: str = "memory"
    goals_on_unknown: Literal["park", "retry"] = "park"
    visitors: int = 4
    """Threads that capture at the same time."""
    storm: float = 8.0
    """Seconds that the weather stays at most, once the last visitor has gone."""
    patience: float = 60.0
    """Seconds that the lanes have to deliver everything, once the weather is calm."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further settings."""


@dataclass
class Result:
    """What has come of it."""

    plan: Plan
    accounts: list[Account]
    fates: Counter[str]
    stolen: int
    drained: bool

    def problems(self) -> list[str]:
        """What should not be so."""
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


def run(plan: Plan, folder: Path) -> Result:
    """Let the vendors rage while visitors come, then calm them, and ask for every record."""
    authority = trustme.CA()
    bundle = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    with ExitStack() as stack:

        def vendor(name: str, weights: Mapping[Fate, float], **options: Any) -> Vendor:
            return stack.enter_context(Vendor(name, seed=plan.seed, weights=weights, **options))

        vendors = {
            "sessionsight": vendor("sessionsight", STORM),
            "signal": vendor("signal", STORM),
            "saytics": vendor("saytics", UNTRUSTED, host="saytics.invalid", authority=authority),
            "analyse": vendor("analyse", UNTRUSTED, host="analyse.invalid", authority=authority),
        }
        stack.enter_context(known(*vendors.values()))
        witnesses: dict[str, Witness] = {}

        def transport(destination: Destination) -> Witness:
            # One witness a lane, whoever of the client's processes and engines asks.
            connections = destination.limits.concurrency
            made = HttpxTransport(connections=connections, ca_bundle=str(bundle), trust_env=False)
            return witnesses.setdefault(destination.name, Witness(made))

        settings = Settings.from_mapping(
            {
                **HASTE,
                "destinations": destinations({name: each.url for name, each in vendors.items()}),
                "spool": plan.spool,
                "goals_on_unknown": plan.goals_on_unknown,
                **plan.options,
            }
        )
        client = Client(settings, make_transport=transport)
        stack.callback(client.shutdown, 0)
        events, goals = visit(client, plan)
        client.flush(plan.storm)
        for each in vendors.values():
            each.calm()
        client.resume()
        drained = client.flush(plan.patience)
        stats, dead = client.stats(), client.dead_letters()
        accounts = [
            Account(
                lane=name,
                stats=stats.lanes[name],
                captured=goals if name == "sessionsight" else events,
                dead=[letter for letter in dead if letter.destination == name],
                tries=witnesses[name].tries if name in witnesses else [],
                counted=each.counted(),
                repeats=name != "sessionsight" or plan.goals_on_unknown == "retry",
            )
            for name, each in vendors.items()
        ]
        fates = Counter(str(fate) for each in vendors.values() for fate in each.fates().elements())
        return Result(plan, accounts, fates, sum(each.stolen for each in vendors.values()), drained)


def destinations(urls: Mapping[str, str]) -> list[Destination]:
    """All four vendors, in batches small enough to meet many fates."""
    return [
        SessionSight(secret_api_key=KEYS["sessionsight"], property_id="shop", api_url=urls["sessionsight"]),
        Signal(api_key=KEYS["signal"], project_id="shop", endpoint=urls["signal"], batch_size=7),
        Saytics(
            secret_key=KEYS["saytics"], api_url=urls["saytics"], plan="enterprise", batch_size=7,
            calls_per_minute=1_000_000,
        ),
        Analyse(public_key=KEYS["analyse"], host=urls["analyse"], batch_size=7),
    ]  # fmt: skip


def visit(client: Client, plan: Plan) -> tuple[Counter[str], Counter[str]]:
    """Capture by several threads. Gives the tokens of events and of goals, with how often each was captured."""
    events: Counter[str] = Counter()
    goals: Counter[str] = Counter()
    lock = threading.Lock()

    def come(visitor: int) -> None:
        for number in range(visitor, plan.visits, plan.visitors):
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
