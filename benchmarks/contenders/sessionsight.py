"""This library, delivering to Analyse.net's protocol, which takes a hundred events a call as most others do."""

from __future__ import annotations

from benchmarks.delivered import deliver
from benchmarks.vendors import analyse
from benchmarks.workload import EVENT, PROPERTIES, Visitor
from sessionsight import Client, Page, SessionSightIds, Settings, SignalIds, TrackingContext


class Ours:
    def __init__(self, url: str, queue: int) -> None:
        bounds = {"queue_records": queue, "queue_bytes": 1 << 30}
        self._client = Client(Settings.from_mapping({"destinations": analyse(url), **bounds}))

    def capture(self, user: str) -> None:
        self._client.analytics.capture(EVENT, PROPERTIES, user_id=user)

    def capture_visit(self, visitor: Visitor) -> None:
        context = TrackingContext(
            sessionsight=SessionSightIds(session_id=visitor.session_id, visitor_id=visitor.visitor_id),
            signal=SignalIds(
                session_id=visitor.signal_session_id,
                window_id=visitor.signal_window_id,
                distinct_id=visitor.signal_distinct_id,
            ),
            page=Page(url=visitor.url, path=visitor.path, user_agent=visitor.user_agent),
        )
        self._client.bind(context).capture(EVENT, PROPERTIES)

    def flush(self) -> None:
        deliver(self._client, 120)


make = Ours
