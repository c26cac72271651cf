"""Applies `before_send`, the callback that may change or drop a copy of each record before it is sent."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from sessionsight.callbacks import run
from sessionsight.capture.encoding import decode, encode
from sessionsight.capture.records import (
    DropReason,
    EventRecord,
    FeedbackRecord,
    Goal,
    QueuedRecord,
    check_goal,
    record_id,
)
from sessionsight.delivery.options import BeforeSend
from sessionsight.delivery.queue.base import LaneQueue
from sessionsight.destinations.base import Destination, rfc3339
from sessionsight.errors import CaptureError
from sessionsight.javascript import nonfinite_as_text
from sessionsight.log import LaneLogger

__all__ = ["BeforeSendFilter", "apply"]


class BeforeSendFilter:
    """Passes claimed records to `before_send`, and drops those that are not to be sent. Runs on the dispatcher thread.

    Args:
        before_send: The user's callback, or None.
        destination: Where the records go. It checks each changed record again.
        queue: Where dropped records are counted.
        logger: Where errors of the callback are logged.
    """

    def __init__(
        self, before_send: BeforeSend | None, destination: Destination, queue: LaneQueue, logger: LaneLogger
    ) -> None:
        self._before_send = before_send
        self._destination = destination
        self._queue = queue
        self._logger = logger

    def __call__(self, entries: Sequence[QueuedRecord]) -> Sequence[QueuedRecord]:
        """Return the records to send, as the callback left them."""
        before_send = self._before_send
        if before_send is None:
            return entries
        return [changed for entry in entries if (changed := self._apply_one(before_send, entry)) is not None]

    def _apply_one(self, before_send: BeforeSend, entry: QueuedRecord) -> QueuedRecord | None:
        try:
            changed = apply(before_send, entry, self._destination.name)
            reason = (
                DropReason.BEFORE_SEND
                if changed is None
                else self._destination.drop_reason(changed.record, changed.context)
            )
        except (Exception, SystemExit) as error:
            changed, reason = None, DropReason.BEFORE_SEND_ERROR
            message = f"before_send failed with {type(error).__name__}: {error}; the record is dropped"
            self._logger.log(logging.ERROR, message, key="before_send")
        if reason is None:
            return changed
        if changed is not None:
            self._logger.log(
                logging.WARNING,
                f"{changed.record.kind} {changed.record.label!r} is dropped ({reason}), because before_send removed "
                "what the vendor needs",
                key=f"before_send:{reason}",
            )
        self._queue.drop([entry], reason)
        return None


def apply(before_send: BeforeSend, entry: QueuedRecord, destination: str) -> QueuedRecord | None:
    """Call `before_send` with the record as a dict, and return a copy of the entry with its changes.

    The dict has `kind`, `id`, `timestamp`, `properties`, `user_id`, `session_id`, and `name`, or `goal_id` and
    `amount`, or `feedback_type_id`. From the returned dict, `properties`, `name`, `user_id` and `amount` are used.

    Returns:
        The entry to send, or None when the callback returned None.

    Raises:
        Exception: Any exception of the callback, or a `CaptureError` for a result that cannot be sent.
    """
    record = entry.record
    payload: dict[str, Any] = {
        "kind": record.kind,
        "id": record_id(record),
        "timestamp": rfc3339(record.time),
        "user_id": entry.user_id,
        "session_id": entry.context.session_id,
        "properties": decode(record.properties),
    }
    if isinstance(record, EventRecord):
        payload["name"] = record.name
    elif isinstance(record, Goal):
        payload.update(goal_id=record.goal_id, amount=record.amount)
    elif isinstance(record, FeedbackRecord):
        payload["feedback_type_id"] = record.feedback_type_id
    returned = run(before_send, payload, destination)
    if returned is None:
        return None
    if not isinstance(returned, Mapping):
        raise CaptureError(f"before_send must return a dict or None, not {type(returned).__name__}")
    goal = isinstance(record, Goal)
    changes: dict[str, Any] = {
        "user_id": _user_id(returned),
        "properties": _properties(returned, nonfinite_to_text=goal),
    }
    if isinstance(record, EventRecord):
        changes["name"] = _name(returned)
    elif isinstance(record, Goal):
        changes["amount"] = check_goal(record.goal_id, returned.get("amount"), None)
    return replace(entry, record=replace(record, **changes), context=entry.context.with_user(changes["user_id"]))


def _properties(returned: Mapping[str, Any], *, nonfinite_to_text: bool) -> bytes:
    properties = returned.get("properties", {})
    if not isinstance(properties, Mapping):
        raise CaptureError(f"before_send: properties must be a mapping, not {type(properties).__name__}")
    if nonfinite_to_text:  # a goal's metadata has NaN as text
        properties = {name: nonfinite_as_text(value) for name, value in properties.items()}
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
