"""Contexts for tests of job runners, and a report of the one that a job runs under."""

from __future__ import annotations

import os
from typing import Any

import sessionsight
from sessionsight import SessionSightIds, TrackingContext
from sessionsight.capture.encoding import decode
from sessionsight.capture.records import EventRecord
from tests.core.box import Recorder


def context_of(session: str) -> TrackingContext:
    return TrackingContext(sessionsight=SessionSightIds(session_id=session, visitor_id="visitor-1"), user_id="user-1")


def carrier_of(session: str) -> dict[str, str]:
    return {"ss_sid": session, "ss_vid": "visitor-1", "ss_user_id": "user-1"}


def report(name: str, **more: Any) -> None:
    """Capture an event of this name, with the current context and process among its properties."""
    analytics = sessionsight.current()
    found = {"carrier": analytics.context.to_carrier(), "pid": os.getpid(), **more}
    analytics.capture(name, found, user_id="reporter")


def reports(recorder: Recorder, name: str) -> list[Any]:
    """Return the properties of the events of this name that have been delivered."""
    events = [record for record in recorder.records() if isinstance(record, EventRecord)]
    return [decode(event.properties) for event in events if event.name == name]
