"""The inspector with 100,000 records: how fast it takes them, and how long its pages' questions take.

python -m benchmarks.inspector
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable

from benchmarks.table import Row, heading, table
from sessionsight.inspector.filters import Filter
from sessionsight.inspector.model import VENDORS, InspectedRecord, RecordedRequest
from sessionsight.inspector.store import Store

RECORDS = 100_000
BATCH = 20
SESSIONS = 2_000
REPEATS = 15
PAGE_AIM = 50.0  # ms; nobody notices such a wait


def record(number: int, chance: random.Random, now: float) -> InspectedRecord:
    """One of a busy hour's."""
    vendor = VENDORS[number % 4]
    session = chance.randrange(SESSIONS)
    properties = {"order_id": f"order_{number}", "path": "/products/mug", "plan": "pro", "items": 3}
    goal = vendor == "sessionsight"
    return InspectedRecord(
        received_at=now,
        occurred_at=now,
        vendor=vendor,
        kind="goal" if goal else "event",
        name=f"goal-{number % 10}" if goal else f"Event {number % 50}",
        side="browser" if number % 3 else "server",
        accepted=number % 100 != 0,
        errors=[] if number % 100 else ["event: is required"],
        session_id=f"session-{session}" if vendor in {"sessionsight", "signal"} else None,
        visitor_id=f"visitor-{session}",
        user_id=f"user-{session // 2}" if number % 5 else None,
        amount=4.9 if goal else None,
        properties=properties,
        raw={"event": f"Event {number % 50}", "distinctId": f"user-{session // 2}", "properties": properties},
    )


def fill(store: Store, *, records: int, start: int, now: float) -> float:
    """Records a second."""
    chance = random.Random(start)
    batches = []
    for first in range(start, start + records, BATCH):
        at = now - 3600 * (1 - (first - start) / records)
        items = [record(number, chance, at) for number in range(first, first + BATCH)]
        request = RecordedRequest(
            received_at=at, method="POST", path="/v1/capture", status=200, vendor=items[1].vendor, body=b"x" * 4000
        )
        batches.append((request, items))
    started = time.perf_counter()
    for request, items in batches:
        store.add(request, items)
    return records / (time.perf_counter() - started)


def milliseconds(question: Callable[[], object]) -> float:
    """The median."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        question()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def measure() -> list[Row]:
    now = time.time()
    with Store(max_records=RECORDS) as store:
        rows = [
            Row(what="taken while it fills", figure=fill(store, records=RECORDS, start=0, now=now), unit="records/s")
        ]
        over = fill(store, records=RECORDS // 5, start=RECORDS, now=now)
        rows.append(Row(what="taken when the oldest give way", figure=over, unit="records/s"))
        middle = store.newest() - RECORDS // 2
        questions: dict[str, Callable[[], object]] = {
            "newest page": lambda: store.records(Filter()),
            "a page in the middle": lambda: store.records(Filter(), before=middle),
            "page of a vendor": lambda: store.records(Filter(vendor="saytics")),
            "page of a kind": lambda: store.records(Filter(kind="goal")),
            "page of refused ones": lambda: store.records(Filter(status="refused")),
            "page of an event": lambda: store.records(Filter(event="Event 7")),
            "page of a user, vendor and kind": lambda: store.records(
                Filter(user="user-7", vendor="signal", kind="event")
            ),
            "page of a text that is often there": lambda: store.records(Filter(text="mug")),
            "page of a text that is nowhere": lambda: store.records(Filter(text="nowhere")),
            "a session and what is tied to it": lambda: store.session("session-7"),
            "sessions": store.sessions,
            "goals": store.goals,
            "a goal over time": lambda: store.goal_series("goal-0"),
            "health": store.health,
            "counts": store.counts,
        }
        rows += [
            Row(what=what, figure=milliseconds(question), unit="ms", aim=PAGE_AIM)
            for what, question in questions.items()
        ]
    return rows


if __name__ == "__main__":
    print(f"{heading()}; the inspector at {RECORDS:,} records\n\n{table(measure())}")
