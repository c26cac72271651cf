from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from sessionsight.capture.records import (
    Alias,
    Amount,
    EventRecord,
    FeedbackRecord,
    Goal,
    Group,
    Identify,
    PersonProperties,
    QueuedRecord,
    Record,
)
from sessionsight.delivery.queue.codec import decode_entry, encode_entry
from sessionsight.request.context import Page, SessionSightIds, SignalIds, TrackingContext

COMMON: dict[str, Any] = {"random": b"0123456789", "time": 1_767_225_600.25}
CONTEXT = TrackingContext(
    sessionsight=SessionSightIds(session_id="s", visitor_id="v"),
    signal=SignalIds(session_id="S", window_id="W", distinct_id="D"),
    user_id="user_1",
    anonymous_id="anonymous_1",
    page=Page(url="https://shop.example.com/?utm_source=x", utm_source="x", client_ip="192.0.2.1"),
)


def back(record: Record, context: TrackingContext = CONTEXT) -> QueuedRecord:
    return decode_entry(encode_entry(QueuedRecord(record, context, 5.0)), enqueued_at=5.0, handle=7)


@pytest.mark.parametrize(
    "record",
    [
        EventRecord(**COMMON, name="seen", properties=b'{"a":1.10}', groups={"company": "c"}, standard=True, key="k"),
        Identify(
            **COMMON, user_id="user_1", distinct_id="d", anonymous_id="a", destinations=frozenset({"signal", "saytics"})
        ),
        PersonProperties(**COMMON, once=True),
        Alias(**COMMON, alias="old"),
        Group(**COMMON, group_type="company", group_key="c"),
        Goal(**COMMON, goal_id="signups", direction="decrement", session_id="s"),
        FeedbackRecord(**COMMON, feedback_type_id="nps", session_id="s"),
    ],
    ids=lambda record: type(record).__name__,
)
def test_a_record_and_its_context_are_decoded_unchanged(record: Record) -> None:
    assert back(record) == QueuedRecord(record, CONTEXT, 5.0, 7)


@pytest.mark.parametrize("amount", [1, 0.1, Decimal("49.90"), Decimal("1E+3"), 2**63, 2**70], ids=str)
def test_amounts_are_exact(amount: Amount) -> None:
    found = back(Goal(**COMMON, goal_id="revenue", direction="increment", amount=amount)).record

    assert isinstance(found, Goal)
    assert found.amount == amount
    assert str(found.amount) == str(amount)


def test_a_goal_with_a_huge_amount_and_a_lone_surrogate_is_encoded() -> None:
    found = back(Goal(**COMMON, goal_id="broken \ud800", direction="increment", amount=2**70)).record

    assert isinstance(found, Goal)
    assert (found.goal_id, found.amount) == ("broken \ufffd", 2**70)


class Marked(str):
    """A subclass of str, as `markupsafe.Markup` is."""

    __slots__ = ()


def test_subclasses_of_str_are_decoded_as_str() -> None:
    found = back(EventRecord(**COMMON, name=Marked("seen")), replace(CONTEXT, user_id=Marked("user_1")))

    assert found == QueuedRecord(EventRecord(**COMMON, name="seen"), CONTEXT, 5.0, 7)


def test_a_lone_surrogate_becomes_a_replacement_character() -> None:
    record = EventRecord(**COMMON, name="broken \ud800", groups={"company": "\udfff"})

    found = back(record, replace(CONTEXT, user_id="user \ud83d"))

    assert found.record.label == "broken \ufffd"
    assert found.user_id == "user \ufffd"
    assert found.record == replace(record, name="broken \ufffd", groups={"company": "\ufffd"})
