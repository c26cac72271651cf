"""segment-analytics-python: `Client(...).track`."""

from __future__ import annotations

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

    def flush(self) -> None:
        self._client.flush()


make = Theirs
