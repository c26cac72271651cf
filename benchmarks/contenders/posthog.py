"""posthog: `Posthog(...).capture`."""

from __future__ import annotations

from posthog import Posthog

from benchmarks.workload import EVENT, PROPERTIES, Visitor


class Theirs:
    def __init__(self, url: str, queue: int) -> None:
        self._client = Posthog("phc_bench", host=url, max_queue_size=queue)

    def capture(self, user: str) -> None:
        self._client.capture(EVENT, distinct_id=user, properties=PROPERTIES)

    def capture_visit(self, visitor: Visitor) -> None:
        context = {
            "ss_sid": visitor.session_id,
            "$session_id": visitor.signal_session_id,
            "$window_id": visitor.signal_window_id,
            "signal_id": visitor.signal_distinct_id,
            "$current_url": visitor.url,
            "$pathname": visitor.path,
            "$raw_user_agent": visitor.user_agent,
        }
        self._client.capture(EVENT, distinct_id=visitor.visitor_id, properties={**PROPERTIES, **context})

    def flush(self) -> None:
        self._client.flush(None)


make = Theirs
