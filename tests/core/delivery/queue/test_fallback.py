from __future__ import annotations

import time
from collections.abc import Sequence

from sessionsight.capture.records import QueuedRecord
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.fallback import FallbackBuffer
from sessionsight.delivery.queue.priority import PriorityDeque
from sessionsight.delivery.stores.base import LaneBatch
from tests.core.delivery.kit import event, labels


class Observed(PriorityDeque):
    """Notes what another thread may see just after claimed records were removed."""

    buffer: FallbackBuffer
    seen: list[int]

    def done(self, entries: Sequence[QueuedRecord]) -> None:
        super().done(entries)
        self.seen.append(self.buffer.pending)


def test_deferred_records_that_become_sendable_are_pending_at_every_moment() -> None:
    buffer = FallbackBuffer(DeliveryOptions(), clock=time)
    buffer.deferred._entries = observed = Observed(max_records=9, max_bytes=10**9)
    observed.buffer, observed.seen = buffer, []
    buffer.put(LaneBatch("analyse", [event("a", key="1"), event("b", key="2")], []), defer_keyed=True)
    assert buffer.sendable.pending == 0

    buffer.release_deferred()

    assert observed.seen == [2]
    assert labels(buffer.sendable.claim(9, 10**9)) == ["a", "b"]
