"""Records as the inspector reads them, to change a field of."""

from typing import Any

from sessionsight.inspector.model import InspectedRecord, RecordedRequest
from sessionsight.inspector.store import Store

START = 1_800_000_000.0
WINDOW = "7d0c3f52-aa10-4f0e-9f50-1f2d1f6a7c31"


def record(seconds: float = 0, /, **changes: Any) -> InspectedRecord:
    """One of Signal's, sent by a server so many seconds after the start."""
    given: dict[str, Any] = {"vendor": "signal", "kind": "event", "name": "order_processed", "side": "server"}
    return InspectedRecord(
        **{"received_at": START + seconds, "occurred_at": START + seconds, "accepted": True, **given, **changes}
    )


def goal(seconds: float = 0, amount: float = 1, /, **changes: Any) -> InspectedRecord:
    return record(
        seconds, **{"vendor": "sessionsight", "kind": "goal", "name": "user-signups", "amount": amount, **changes}
    )


def keep(store: Store, *records: InspectedRecord, **changes: Any) -> list[InspectedRecord]:
    """Records of one request."""
    given: dict[str, Any] = {"method": "POST", "path": "/v1/capture", "status": 200, "vendor": records[0].vendor}
    return store.add(RecordedRequest(**{"received_at": records[0].received_at, **given, **changes}), records)
