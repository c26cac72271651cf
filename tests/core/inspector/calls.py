"""Requests as the vendors' own SDKs would send them, to change a field of."""

from typing import Any

SESSION = "0b54ad6e-95f8-4d9c-8a51-2f2bd67a9a0c"
VISITOR = "7f8d1c1e-3f0b-4f4e-9c55-2c3f5a8c9f10"
TIME = "2026-05-01T10:00:00.250Z"

SECRET = {"x-api-key": "sessionsight_sec_1"}
BEARER = {"authorization": "Bearer sk_live_1234567890"}
SIGNAL = {"authorization": "Bearer signal_key_1"}


def goal(**changes: Any) -> dict[str, Any]:
    return {"goalId": "user-signups", "propertyId": "shop", "amount": 1, "sessionId": SESSION, **changes}


def event(**changes: Any) -> dict[str, Any]:
    return {"event": "User Signed Up", "userId": "user_1", "properties": {"plan": "pro"}, "timestamp": TIME, **changes}


def pulse(**changes: Any) -> dict[str, Any]:
    """Analyse.net's."""
    known = {"event_name": "signup_completed", "anonymous_id": VISITOR, "timestamp": TIME}
    return {**known, "referrer_domain": "", "properties": {}, **changes}


def capture(**changes: Any) -> dict[str, Any]:
    """Signal's."""
    return {"event": "Report Exported", "distinctId": "user_1", "timestamp": TIME, "properties": {}, **changes}


def batch(*events: Any, **changes: Any) -> dict[str, Any]:
    return {"projectId": "shop", "sentAt": TIME, "events": list(events), **changes}


def pulses(*events: Any, **changes: Any) -> dict[str, Any]:
    return {"publicKey": "pk_live_1", "events": list(events), **changes}
