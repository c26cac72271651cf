"""segment-analytics-python: `Client(...).track`."""

from __future__ import annotations

import time

from segment.analytics import Client

from benchmarks.workload import EVENT, PROPERTIES, Visitor


class Theirs:
    def __init__(self, url: str, queue: int) -> None:
        self._client = Client("bench", host=url, max_queue_size=queue)

    def capture(self, user: str) -> None:
        self._client.track(user, EVENT, PROPERTIES)

    def capture_visit(self, visitor: Visitor) -> None:
        context = {
            "page": {"url": visitor.url, "path": visitor.path},
            "userAgent": visitor.user_agent,
            "ss_sid": visitor.session_id,
            "sessionId": visitor.signal_session_id,
            "windowId": visitor.signal_window_id,
            "signalId": visitor.signal_distinct_id,
        }
        self._client.track(anonymous_id=visitor.visitor_id, event=EVENT, properties=PROPERTIES, context=context)

    def settle(self) -> None:
        # Its flush waits for the rest of the upload interval; the queue is empty long before.
        while not self._client.queue.empty():
            time.sleep(0.001)

    def flush(self) -> None:
        self._client.flush()


make = Theirs
