"""Requests and records as a store is given them."""

from typing import Any

from sessionsight.inspector.model import InspectedRecord, RecordedRequest

NOW = 1_777_629_600.0


def received(**changes: Any) -> RecordedRequest:
    known = {"received_at": NOW, "method": "POST", "path": "/v1/capture", "status": 200, "vendor": "signal"}
    return RecordedRequest(**{**known, **changes})


def record(**changes: Any) -> InspectedRecord:
    known: dict[str, Any] = {
        "received_at": NOW,
        "occurred_at": changes.get("received_at", NOW),
        "vendor": "signal",
        "kind": "event",
        "name": "Report Exported",
        "side": "server",
        "accepted": True,
    }
    return InspectedRecord(**{**known, **changes})


def goal(amount: float, **changes: Any) -> InspectedRecord:
    return record(**{"vendor": "sessionsight", "kind": "goal", "name": "revenue", "amount": amount, **changes})
