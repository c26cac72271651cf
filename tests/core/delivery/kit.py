"""Helpers of the delivery tests: records, a minimal vendor, options, queues and lanes."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sessionsight.capture.records import DropReason, EventRecord, Goal, QueuedRecord, Record
from sessionsight.delivery.engine import Engine
from sessionsight.delivery.httpx_transport import HttpxTransport
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.memory import MemoryQueue
from sessionsight.delivery.queue.priority import estimate_memory
from sessionsight.delivery.stats import LaneStats
from sessionsight.delivery.stores.base import DeadLetter
from sessionsight.delivery.transport import Transport
from sessionsight.destinations.base import (
    Action,
    Destination,
    Limits,
    VendorRequest,
    VendorResponse,
    Verdict,
    classify_status,
)
from sessionsight.log import ThrottledLogger
from sessionsight.request.context import TrackingContext
from tests.support.server import PATIENCE

USER = TrackingContext(user_id="user_1")


def queued(record: Record, since: float | None = None, context: TrackingContext = USER) -> QueuedRecord:
    memory = estimate_memory(record, context)
    return QueuedRecord(record, context, time.time() if since is None else since, memory=memory)


def event(name: str = "seen", *, size: int = 0, key: str | None = None, since: float | None = None) -> QueuedRecord:
    properties = json.dumps({"x": "y" * size}).encode() if size else b"{}"
    record = EventRecord(random=os.urandom(10), time=time.time(), name=name, key=key, properties=properties)
    return queued(record, since)


def goal(name: str = "signups", *, key: str | None = None, since: float | None = None) -> QueuedRecord:
    record = Goal(random=os.urandom(10), time=time.time(), goal_id=name, direction="increment", key=key)
    return queued(record, since)


class Vendor:
    """Minimal destination: sends the labels of records as a list, and a key in a header.

    Its reply may reject some of them: `{"refused": {"1": "no such goal"}}`.
    """

    secrets = frozenset({"key"})

    def __init__(
        self, url: str, *, name: str = "vendor", key: str | Callable[[], str] = "sk_very_secret", **limits: Any
    ) -> None:
        self.name = name
        self.url = url
        self.key = key
        self.limits = Limits(**limits)

    def supports(self, kind: type[Record]) -> bool:
        return True

    def drop_reason(self, record: Record, context: TrackingContext) -> DropReason | None:
        return DropReason.NO_IDENTITY if record.label == "nobody" else None

    def build_requests(self, entries: Sequence[QueuedRecord], *, now: float) -> Iterable[VendorRequest]:
        key = self.key() if callable(self.key) else self.key
        body = json.dumps([entry.record.label for entry in entries]).encode()
        return [VendorRequest(url=f"{self.url}/take", headers={"x-api-key": key}, body=body, entries=entries)]

    def classify(self, call: VendorRequest, reply: VendorResponse) -> Verdict:
        verdict = classify_status(reply)
        if verdict.action is Action.DELIVERED and b"refused" in reply.body:
            refused = {int(at): why for at, why in json.loads(reply.body)["refused"].items()}
            return Verdict(action=Action.DELIVERED, rejected=refused)
        return verdict


def batches(url: str, **options: Any) -> Vendor:
    """Return a vendor of events: it accepts batches, and accepts them again."""
    return Vendor(url, **{"max_records": 10, **options})


def singles(url: str, **options: Any) -> Vendor:
    """Return a vendor of goals: it accepts single records, several in parallel, and each only once."""
    return Vendor(url, **{"name": "goals", "max_records": 1, "concurrency": 8, "idempotent": False, **options})


def quick(**options: Any) -> DeliveryOptions:
    """Return options with short delays, which a test may override."""
    return DeliveryOptions(
        **{"linger": 0.0, "backoff_base": 0.001, "backoff_max": 0.01, "pause_interval": 0.02, **options}
    )


def make_queue(**options: Any) -> MemoryQueue:
    return MemoryQueue(quick(**options))


def labels(entries: Iterable[QueuedRecord | DeadLetter]) -> list[str]:
    return [(entry.entry if isinstance(entry, DeadLetter) else entry).record.label for entry in entries]


def deaths(letters: Iterable[DeadLetter]) -> dict[str, str]:
    """Map labels to reasons."""
    return {letter.entry.record.label: letter.reason for letter in letters}


def tally(stats: LaneStats) -> dict[str, Any]:
    """Return the counters that are not zero, after checking their sum."""
    assert stats.balanced, stats
    numbers = {
        "captured": stats.captured,
        "delivered": stats.delivered,
        "pending": stats.pending,
        "dead": stats.dead,
        **stats.dropped,
    }
    return {name: number for name, number in numbers.items() if number}


class OneLane:
    """The only lane of an engine, as most delivery tests use it."""

    def __init__(self, destination: Destination, options: DeliveryOptions, transport: Transport | None = None) -> None:
        sends = transport or HttpxTransport(connections=destination.limits.concurrency, trust_env=False)
        self.engine = Engine([destination], options, ThrottledLogger(), lambda _: sends)
        [self.lane] = self.engine._lanes.values()
        self.name = self.lane.name
        self.stats = self.lane.stats
        self.dead_letters = self.lane.dead_letters
        self.resume = self.lane.resume
        assert isinstance(self.lane._queue, MemoryQueue)
        self.queue = self.lane._queue

    def offer(self, entries: Sequence[QueuedRecord], drop: DropReason | None = None) -> None:
        """Enqueue entries, as the engine does."""
        batch = self.lane.select([entry for entry in entries if self.lane.accepts(entry.record)], drop)
        if batch is not None:
            self.queue.enqueue(batch.entries, batch.dropped)
            self.lane.notify()

    def flush(self, deadline: float | None = None) -> bool:
        return self.engine.flush(time.monotonic() + PATIENCE if deadline is None else deadline)

    def close(self) -> int:
        return self.engine.close()[self.name]


def make_lane(destination: Destination, **options: Any) -> OneLane:
    return OneLane(destination, quick(**options))


def lane_threads() -> set[threading.Thread]:
    """Return all threads of delivery of this process, including those of other tests' clients."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("sessionsight-")}


def offer(lane: OneLane, entries: Sequence[QueuedRecord], drop: DropReason | None = None) -> None:
    """Enqueue entries in one lane, as an engine does."""
    lane.offer(entries, drop)


def deliver(lane: OneLane) -> dict[str, Any]:
    """Wait until nothing is left to deliver, and return the counters."""
    assert lane.flush(), lane.stats()
    return tally(lane.stats())
