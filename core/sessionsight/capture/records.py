"""Captured records: events, identifications, goals, feedback, and Signal's person and group records.

A record is frozen at the capture call. Its properties are JSON bytes by then, so later changes of
the caller's objects change nothing. The context is added when the response ends, which makes a
`QueuedRecord`.
"""

from __future__ import annotations

import math
import os
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar, Literal
from uuid import UUID

from msgspec import Struct

from sessionsight.capture.scalars import to_python
from sessionsight.errors import InvalidGoalError, describe
from sessionsight.javascript import is_blank
from sessionsight.late_import import late_import
from sessionsight.request.context import TrackingContext

__all__ = [
    "Alias",
    "Amount",
    "DropReason",
    "EventRecord",
    "FeedbackRecord",
    "Goal",
    "Group",
    "Identify",
    "PersonProperties",
    "QueuedRecord",
    "Record",
    "check_goal",
    "random_bytes",
    "record_id",
]


Amount = int | float | Decimal
_PLAIN_AMOUNTS = frozenset({int, float, Decimal})

_RANDOM_SIZE = 10  # bytes of one record
_POOL_SIZE = 400  # records
_pool: list[bytes] = []
_pool_pid = os.getpid()


class DropReason(StrEnum):
    """The reason why a lane did not deliver a record. Each reason has a counter."""

    NO_SESSION = "no_session"
    NO_IDENTITY = "no_identity"
    CONSENT = "consent"
    EXCLUDED = "excluded"
    DISCARDED = "discarded"
    ROLLED_BACK = "rolled_back"
    CHOICE_ERROR = "choose_destinations_error"
    DUPLICATE = "duplicate"
    QUEUE_FULL = "queue_full"
    BEFORE_SEND = "before_send"
    BEFORE_SEND_ERROR = "before_send_error"
    DEAD_LETTERS_FULL = "dead_letters_full"
    DEAD_LETTERS_EXPIRED = "dead_letters_expired"
    DEAD_LETTER_DROPPED = "dead_letter_dropped"
    ERASED = "erased"
    SHUTDOWN = "shutdown"
    STORE_EMPTIED = "store_emptied"


class Record(Struct, frozen=True, kw_only=True, gc=False, tag=True):
    """The fields of every kind of record. The ids are those of the call itself."""

    kind: ClassVar[str]
    """Name of the kind in ids, logs and `before_send`."""
    random: bytes
    """Ten random bytes from the operating system: half of the record's id."""
    time: float
    """When it happened, in Unix seconds: the capture call, or the caller's `timestamp`."""
    properties: bytes = b"{}"
    """A JSON object: event properties, traits, goal metadata, or a feedback's option, message and metadata."""
    user_id: str | None = None
    distinct_id: str | None = None
    anonymous_id: str | None = None
    key: str | None = None
    """The caller's idempotency key."""
    destinations: frozenset[str] | None = None
    """Only for these destinations; None means all that support this kind."""

    @property
    def label(self) -> str:
        """The name for people: the event's name, the goal's id."""
        return self.kind


class EventRecord(Record, frozen=True, kw_only=True, gc=False, tag="Event"):
    """Something that happened; `sessionsight.Event` is the base of typed events."""

    kind: ClassVar[str] = "event"
    name: str
    groups: dict[str, str] | None = None
    """Group type to group key; Signal only."""
    standard: bool = False
    """True for a typed standard event, whose `amount` is known to be in minor units."""

    @property
    def label(self) -> str:
        """The event's name."""
        return self.name


class Identify(Record, frozen=True, kw_only=True, gc=False):
    """A person's id and traits."""

    kind: ClassVar[str] = "identify"


class PersonProperties(Record, frozen=True, kw_only=True, gc=False):
    """Properties of a person, without an identification; Signal only."""

    kind: ClassVar[str] = "person_properties"
    once: bool = False
    """Set only what is not set yet."""


class Alias(Record, frozen=True, kw_only=True, gc=False):
    """Two ids that are one person; Signal only."""

    kind: ClassVar[str] = "alias"
    alias: str


class Group(Record, frozen=True, kw_only=True, gc=False):
    """A group, its properties, and the person's membership; Signal only."""

    kind: ClassVar[str] = "group"
    group_type: str
    group_key: str


class Goal(Record, frozen=True, kw_only=True, gc=False):
    """A step towards or away from a goal; SessionSight only."""

    kind: ClassVar[str] = "goal"
    goal_id: str
    direction: Literal["increment", "decrement"]
    amount: Amount = 1
    session_id: str | None = None
    """A session id given with the call, in place of the context's."""

    @property
    def label(self) -> str:
        """The goal's id."""
        return self.goal_id


class FeedbackRecord(Record, frozen=True, kw_only=True, gc=False, tag="Feedback"):
    """A visitor's answer to one of SessionSight's feedback types; SessionSight only."""

    kind: ClassVar[str] = "feedback"
    max_message: ClassVar[int] = 5000
    """Characters. Source: https://sessionsight.com/docs/build/api-reference/feedback/submit"""
    feedback_type_id: str
    session_id: str | None = None
    """A session id given with the call, in place of the context's."""

    @property
    def label(self) -> str:
        """The slug of the feedback type."""
        return self.feedback_type_id


def check_goal(goal_id: object, amount: object, session_id: object) -> Amount:
    """Check a goal's arguments in the order of SessionSight's own SDK.

    Source: https://github.com/SessionSight/sdks (goals/src).

    Returns:
        The amount as a plain number; 1 by default.

    Raises:
        InvalidGoalError: The first argument that is wrong.
    """
    if not isinstance(goal_id, str) or is_blank(goal_id):
        raise InvalidGoalError(f"goal_id must be the slug of a goal, not {describe(goal_id)}")
    number = _as_amount(1 if amount is None else amount)
    if number is None:
        raise InvalidGoalError(f"goal {describe(goal_id)}: amount must be a number, not {describe(amount)}")
    try:
        read = float(number)  # what the vendor will read it as
    except (OverflowError, ValueError):
        read = math.nan
    if not 0 < read < math.inf:
        raise InvalidGoalError(
            f"goal {describe(goal_id)}: amount must be above zero and finite, not {describe(amount)}"
        )
    if session_id is not None and (not isinstance(session_id, str) or (session_id and is_blank(session_id))):
        raise InvalidGoalError(f"goal {describe(goal_id)}: session_id must be a session id, not {describe(session_id)}")
    return number


def _as_amount(value: Any) -> Amount | None:
    """Return a number in a type that the encoders support, which excludes subclasses; None for anything else."""
    number: Amount
    if type(number := value) in _PLAIN_AMOUNTS:
        return number
    if isinstance(value, Decimal):
        return Decimal(value)
    number = to_python(value)
    return number if type(number) in _PLAIN_AMOUNTS else None


class QueuedRecord(Struct, frozen=True, gc=False):
    """A record and its context: the unit that lanes queue, send and count."""

    record: Record
    context: TrackingContext
    enqueued_at: float = 0.0
    """When it was submitted, in Unix seconds; its age counts from here."""
    handle: int = 0
    """Its row in a durable store; 0 for a record that is not in one."""
    memory: int = 0
    """The estimated bytes of memory that it takes; 0 for a record that is in a durable store."""

    @property
    def user_id(self) -> str | None:
        """The user: the record's own, else the request's."""
        return self.record.user_id or self.context.user_id


def record_id(record: Record) -> str:
    """Return the record's id, the same at every attempt and in every lane.

    A UUIDv7 of the capture time and the random bytes; with a `key`, a UUIDv8 that is derived from
    (kind, name, key) alone, so that a repeated call has the same id. A goal's increments and its decrements
    are two kinds there.
    """
    if record.key is not None:
        kind = record.direction if isinstance(record, Goal) else record.kind  # a refund differs from a second purchase
        source = f"{kind}\0{record.label}\0{record.key}"
        with late_import():
            from hashlib import sha256  # slow to import, and only keys need it
        return str(_uuid(sha256(source.encode("utf-8", "surrogatepass")).digest()[:16], version=8))
    milliseconds = max(round(record.time * 1000), 0) & 0xFFFF_FFFF_FFFF
    return str(_uuid(milliseconds.to_bytes(6, "big") + record.random, version=7))


def _uuid(raw: bytes, *, version: int) -> UUID:
    number = int.from_bytes(raw, "big")
    number &= ~(0xF << 76) & ~(0x3 << 62)
    return UUID(int=number | version << 76 | 0x2 << 62)


def random_bytes() -> bytes:
    """Return ten random bytes that no other record has, in this process or in one forked from it.

    They are drawn from the operating system for hundreds of records at a time, because each such call releases the
    interpreter's lock, and getting it back may take milliseconds while other threads run.
    """
    global _pool, _pool_pid
    if (pid := os.getpid()) != _pool_pid:
        # Compared rather than hooked: a fork by C code calls no hook, and both processes would use the same bytes.
        _pool, _pool_pid = [], pid
    try:
        return _pool.pop()
    except IndexError:
        drawn = os.urandom(_RANDOM_SIZE * _POOL_SIZE)
        first, *rest = (drawn[at : at + _RANDOM_SIZE] for at in range(0, len(drawn), _RANDOM_SIZE))
        _pool.extend(rest)
        return first
