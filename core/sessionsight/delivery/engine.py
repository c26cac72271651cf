"""Everything that belongs to one process: the lanes of a client and what they share.

A forked child gets a new engine and never touches the old one, whose locks another thread may
have held at the fork.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from sessionsight.context import TrackingContext
from sessionsight.delivery.books import DeadLetter
from sessionsight.delivery.lane import Lane
from sessionsight.delivery.ledger import LaneStats
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.spool.memory import MemoryQueue
from sessionsight.delivery.transport import HttpxTransport, Transport
from sessionsight.destinations.base import Destination
from sessionsight.notices import Notices
from sessionsight.records import DropReason, Entry, Record

__all__ = ["Engine", "MakeTransport"]

MakeTransport = Callable[[Destination], Transport]


class Engine:
    """The lanes of one client in one process."""

    def __init__(
        self,
        destinations: Sequence[Destination],
        options: DeliveryOptions,
        notices: Notices,
        make_transport: MakeTransport | None = None,
    ) -> None:
        self.pid = os.getpid()
        self.notices = notices
        self._counts: Counter[str] = Counter()
        self._counting = threading.Lock()

        def transport(destination: Destination) -> Transport:
            if make_transport is not None:
                return make_transport(destination)
            return HttpxTransport(
                connections=destination.limits.concurrency,
                proxy=options.proxy,
                ca_bundle=options.ca_bundle,
                trust_env=options.trust_env,
                max_response_bytes=options.max_response_bytes,
            )

        self._lanes = {
            destination.name: Lane(
                destination,
                MemoryQueue(max_records=options.queue_records, max_bytes=options.queue_bytes),
                transport(destination),
                options,
                notices,
            )
            for destination in destinations
        }

    def submit(self, context: TrackingContext, records: Sequence[Record], drop: DropReason | None = None) -> None:
        """Hand records to every lane that has a place for them."""
        now = time.time()
        entries = [Entry(record, context, now) for record in records]
        for lane in self._lanes.values():
            lane.offer(entries, drop)

    def flush(self, deadline: float) -> bool:
        """Wait until every lane is empty, or until the deadline on the monotonic clock."""
        return all([lane.flush(deadline) for lane in self._lanes.values()])

    def hurry_until(self, deadline: float) -> None:
        """Let every lane send what it has, in what time is left."""
        for lane in self._lanes.values():
            lane.hurry_until(deadline)

    def close(self) -> dict[str, int]:
        """Stop all lanes, without waiting. Returns what each has lost by that."""
        return {name: lane.close() for name, lane in self._lanes.items()}

    def resume(self, name: str | None = None) -> None:
        """Let one lane, or all, try again at once."""
        for lane in self._lanes.values() if name is None else [self._lanes[name]]:
            lane.resume()

    def count(self, what: str, number: int = 1) -> None:
        """Count something that belongs to no lane."""
        with self._counting:
            self._counts[what] += number

    def counts(self) -> Counter[str]:
        """What `count` has counted."""
        with self._counting:
            return self._counts.copy()

    def stats(self) -> dict[str, LaneStats]:
        """The ledger of each lane."""
        return {name: lane.stats() for name, lane in self._lanes.items()}

    def dead_letters(self) -> list[DeadLetter]:
        """The dead letters of all lanes."""
        return [letter for lane in self._lanes.values() for letter in lane.dead_letters()]
