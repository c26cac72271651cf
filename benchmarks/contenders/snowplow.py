"""snowplow-tracker: a `Tracker` with an `AsyncEmitter`, and a self-describing event."""

from __future__ import annotations

import logging

from snowplow_tracker.emitters import AsyncEmitter
from snowplow_tracker.events.self_describing import SelfDescribing
from snowplow_tracker.self_describing_json import SelfDescribingJson
from snowplow_tracker.subject import Subject
from snowplow_tracker.tracker import Tracker

from benchmarks.workload import EVENT, PROPERTIES, Visitor

_SCHEMA = f"iglu:com.example/{EVENT}/jsonschema/1-0-0"
_CONTEXT = "iglu:com.example/visit/jsonschema/1-0-0"

# By default it writes several lines to stderr for each call.
for _module in ("emitters", "tracker"):
    logging.getLogger(f"snowplow_tracker.{_module}").setLevel(logging.WARNING)


class Theirs:
    def __init__(self, url: str, queue: int) -> None:
        self._emitter = AsyncEmitter(url, buffer_capacity=queue)
        # It leaves Decimals and datetimes to a function of the caller's.
        self._tracker = Tracker("bench", self._emitter, json_encoder=str)

    def capture(self, user: str) -> None:
        self._tracker.track(SelfDescribing(SelfDescribingJson(_SCHEMA, PROPERTIES), Subject().set_user_id(user)))

    def capture_visit(self, visitor: Visitor) -> None:
        subject = Subject().set_domain_user_id(visitor.visitor_id).set_useragent(visitor.user_agent)
        context = {
            "ss_sid": visitor.session_id,
            "session_id": visitor.signal_session_id,
            "window_id": visitor.signal_window_id,
            "signal_id": visitor.signal_distinct_id,
            "url": visitor.url,
            "path": visitor.path,
        }
        self._tracker.track(
            SelfDescribing(SelfDescribingJson(_SCHEMA, PROPERTIES), subject, [SelfDescribingJson(_CONTEXT, context)])
        )

    def flush(self) -> None:
        self._tracker.flush()


make = Theirs
