"""`before_send`: the user's last look at a copy of each record, in the lane's own thread."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from sessionsight.callbacks import run
from sessionsight.capture.encoding import decode, encode
from sessionsight.capture.records import DropReason, Event, Goal, QueuedRecord, check_goal, record_id
from sessionsight.delivery.options import BeforeSend
from sessionsight.delivery.queue.base import LaneQueue
from sessionsight.delivery.reports import Reports
from sessionsight.destinations.base import Destination, rfc3339
from sessionsight.errors import CaptureError
from sessionsight.javascript import nonfinite_as_text

__all__ = ["LastLook", "apply"]


class LastLook:
    """Shows claimed records to `before_send`, and settles those that are not to be sent.

    Args:
        function: The user's; None where there is none.
        destination: Where the records go. It is asked again whether it can take one that was changed.
        queue: Where the others are counted as dropped.
        reports: Where it is told that the function failed.
    """

    def __init__(
        self, function: BeforeSend | None, destination: Destination, queue: LaneQueue, reports: Reports
    ) -> None:
        self._function = function
        self._destination = destination
        self._queue = queue
        self._reports = reports

    def __call__(self, entries: Sequence[QueuedRecord]) -> Sequence[QueuedRecord]:
        """The records to send, as the function left them."""
        function = self._function
        if function is None:
            return entries
        return [shown for entry in entries if (shown := self._look(function, entry)) is not None]

    def _look(self, function: BeforeSend, entry: QueuedRecord) -> QueuedRecord | None:
        try:
            shown = apply(function, entry, self._destination.name)
            reason = (
                DropReason.BEFORE_SEND if shown is None else self._destination.drop_reason(shown.record, shown.context)
            )
        except (Exception, SystemExit) as error:
            shown, reason = None, DropReason.BEFORE_SEND_ERROR
            message = f"before_send failed with {type(error).__name__}: {error}; the record is dropped"
            self._reports.log(logging.ERROR, message, key="before_send")
        if reason is None:
            return shown
        if shown is not None:
            self._reports.log(
                logging.WARNING,
                f"{shown.record.kind} {shown.record.label!r} is dropped ({reason}), for before_send took away "
                "what the vendor needs",
                key=f"before_send:{reason}",
            )
        self._queue.drop([entry], reason)
        return None


def apply(before_send: BeforeSend, entry: QueuedRecord, destination: str) -> QueuedRecord | None:
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
    returned = run(before_send, shown, destination)
    if returned is None:
        return None
    if not isinstance(returned, Mapping):
        raise CaptureError(f"before_send must return a dict or None, not {type(returned).__name__}")
    goal = isinstance(record, Goal)
    changes: dict[str, Any] = {"user_id": _user_id(returned), "properties": _properties(returned, as_texts=goal)}
    if isinstance(record, Event):
        changes["name"] = _name(returned)
    elif isinstance(record, Goal):
        changes["amount"] = check_goal(record.goal_id, returned.get("amount"), None)
    return replace(entry, record=replace(record, **changes), context=entry.context.with_user(changes["user_id"]))


def _properties(returned: Mapping[str, Any], *, as_texts: bool) -> bytes:
    properties = returned.get("properties", {})
    if not isinstance(properties, Mapping):
        raise CaptureError(f"before_send: properties must be a mapping, not {type(properties).__name__}")
    if as_texts:  # a goal's metadata, where NaN is a text
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
