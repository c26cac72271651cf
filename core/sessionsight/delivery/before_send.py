"""`before_send`: the user's last look at a copy of each record, in the lane's own thread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from sessionsight.delivery.options import BeforeSend
from sessionsight.destinations.base import rfc3339
from sessionsight.encode import decode, encode
from sessionsight.errors import CaptureError
from sessionsight.records import Entry, Event, Goal, check_goal, record_id

__all__ = ["apply"]


def apply(before_send: BeforeSend, entry: Entry, destination: str) -> Entry | None:
    """Show the record to the function, and take over what it changed.

    The function gets `kind`, `id`, `timestamp`, `properties`, `user_id`, `session_id`, and `name` or
    `goal_id` and `amount`. Of what it returns, `properties`, `name`, `user_id` and `amount` count.

    Returns:
        The entry to send, or None when the function returned None.

    Raises:
        Exception: Whatever the function raises, or a `CaptureError` for a result that cannot be sent.
    """
    record = entry.record
    shown: dict[str, Any] = {
        "kind": record.kind,
        "id": record_id(record),
        "timestamp": rfc3339(record.time),
        "user_id": entry.user_id,
        "session_id": entry.context.session_id,
        "properties": decode(record.properties),
    }
    if isinstance(record, Event):
        shown["name"] = record.name
    elif isinstance(record, Goal):
        shown.update(goal_id=record.goal_id, amount=record.amount)
    returned = before_send(shown, destination)
    if returned is None:
        return None
    if not isinstance(returned, Mapping):
        raise CaptureError(f"before_send must return a dict or None, not {type(returned).__name__}")
    changes: dict[str, Any] = {"user_id": _user_id(returned), "properties": _properties(returned)}
    if isinstance(record, Event):
        changes["name"] = _name(returned)
    elif isinstance(record, Goal):
        changes["amount"] = check_goal(record.goal_id, returned.get("amount"), None)
    return replace(entry, record=replace(record, **changes), context=entry.context.with_user(changes["user_id"]))


def _properties(returned: Mapping[str, Any]) -> bytes:
    properties = returned.get("properties", {})
    if not isinstance(properties, Mapping):
        raise CaptureError(f"before_send: properties must be a mapping, not {type(properties).__name__}")
    return encode(properties)


def _name(returned: Mapping[str, Any]) -> str:
    name = returned.get("name")
    if not isinstance(name, str) or not name.strip():
        raise CaptureError(f"before_send: name must be a string that is not blank, not {name!r}")
    return name


def _user_id(returned: Mapping[str, Any]) -> str | None:
    user_id = returned.get("user_id")
    if user_id is None or user_id == "":
        return None
    if isinstance(user_id, bool) or not isinstance(user_id, str | int):
        raise CaptureError(f"before_send: user_id must be a string, not {type(user_id).__name__}")
    return str(user_id)
