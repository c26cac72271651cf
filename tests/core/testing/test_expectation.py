"""Comparison of records, and the text of differences."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from unittest.mock import ANY

import pytest

from sessionsight.capture.encoding import PropertyEncoder, decode
from sessionsight.capture.records import EventRecord, Goal, Record
from sessionsight.request.context import EMPTY_CONTEXT, SessionSightIds, TrackingContext
from sessionsight.testing.captured import CapturedRecord
from sessionsight.testing.expectation import Expectation, matches


class Plan(Enum):
    PRO = "pro"


ORDER = uuid.UUID("0b0e1f9c-55a4-4d53-8a36-1a2a0b7c5c11")


def event(name: str, context: TrackingContext = EMPTY_CONTEXT, **properties: Any) -> CapturedRecord:
    record = EventRecord(
        name=name, properties=PropertyEncoder()(properties), random=b"0123456789", time=0, user_id="user_1"
    )
    return CapturedRecord.of(record, context)


@pytest.mark.parametrize(
    "value",
    [
        *("text", "", 5, 49.9, 1e300, Decimal("49.90"), True, False, None, ORDER, Plan.PRO, b"bytes"),
        *(date(2026, 1, 2), datetime(2026, 1, 2, 3, 4, tzinfo=UTC), float("nan"), [1, "two"], (1, 2), {"b", "a"}),
        *({"a": {"b": [Decimal("1.10"), Plan.PRO]}}, {1: "one"}, {}, []),
    ],
)
def test_a_value_matches_its_encoded_form(value: Any) -> None:
    found = decode(PropertyEncoder()({"value": value}))["value"]
    assert matches(value, found)
    assert matches([value], [found])


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        *((1, True), (0, False), (True, 1), ("5", 5), (6, "6"), (None, ""), (49.9, Decimal("49.91"))),
        *(([1, 2], [2, 1]), ([1], [1, 2]), ({"a": 1}, {"a": 1, "b": 2}), ({"a": 1}, {}), ([], {}), (object(), "x")),
        *((True, Decimal(1)), (1, [1])),
    ],
)
def test_different_values_do_not_match(expected: Any, found: Any) -> None:
    assert not matches(expected, found)


@pytest.mark.parametrize("found", [None, "text", 5, Decimal("49.90"), [], {}])
def test_a_matcher_is_compared_by_its_own_equality(found: Any) -> None:
    assert matches(ANY, found)
    assert matches({"deep": [ANY]}, {"deep": [found]})


def test_a_matcher_of_numbers_receives_a_float() -> None:
    assert matches(pytest.approx(49.9), Decimal("49.90000001"))
    assert not matches(pytest.approx(49.9), Decimal(50))


def test_a_goals_amount_matches_any_kind_of_number() -> None:
    for amount in (49.9, Decimal("49.90")):
        goal = Goal(goal_id="revenue", direction="increment", amount=amount, random=b"0123456789", time=0)
        captured = CapturedRecord.of(goal, EMPTY_CONTEXT)
        for wanted in (49.9, Decimal("49.9")):
            assert Expectation(kind="goal", fields={"amount": wanted}).matched_by(captured)
        assert not Expectation(kind="goal", fields={"amount": 49}).matched_by(captured)


def test_session_and_user_are_those_of_the_call_or_else_of_the_request() -> None:
    context = TrackingContext(sessionsight=SessionSightIds(session_id="request"), user_id="user_of_request")
    given: dict[str, Any] = {"random": b"0123456789", "time": 0, "goal_id": "g", "direction": "increment"}
    records: list[Record] = [Goal(**given), Goal(**given, session_id="call", user_id="user_of_call")]
    found = [CapturedRecord.of(record, context) for record in records]
    assert [(one.session_id, one.user_id) for one in found] == [
        ("request", "user_of_request"),
        ("call", "user_of_call"),
    ]


def test_the_closest_record_is_shown_with_its_differences() -> None:
    wanted = Expectation(
        kind="event", name="order_processed", properties={"order_id": "ord_2", "amount": 49.9, "plan": "p"}
    )
    captured = [
        event("order_processed", order_id="ord_9", amount=1),
        event("order_processed", order_id="ord_1", amount=Decimal("49.90"), plan="p"),
        event("signed_in"),
    ]
    assert wanted.explain(captured, []) == (
        "no matching event was captured\n"
        "\n"
        "expected:\n"
        "    event 'order_processed'  {order_id='ord_2', amount=49.9, plan='p'}\n"
        "\n"
        "closest:\n"
        "    event 'order_processed'  user_id='user_1'  {order_id='ord_1', amount=49.90, plan='p'}\n"
        "        order_id: expected 'ord_2', captured 'ord_1'\n"
        "\n"
        "other captured records:\n"
        "    event 'order_processed'  user_id='user_1'  {order_id='ord_9', amount=1}\n"
        "    event 'signed_in'  user_id='user_1'"
    )


def test_a_misspelt_name_and_a_missing_property_are_named() -> None:
    wanted = Expectation(kind="event", name="order_proccessed", properties={"plan": None})
    message = wanted.explain([event("seen", plan=None), event("order_processed")], [])
    assert "closest:\n    event 'order_processed'" in message
    assert "name: expected 'order_proccessed', captured 'order_processed'" in message
    assert "plan: expected None, not captured" in message


def test_many_and_long_records_are_truncated() -> None:
    message = Expectation(kind="goal", name="revenue").explain([event("seen", text="x" * 500)] * 25, [])
    assert message.count("event 'seen'") == 20
    assert message.endswith("…\n    and 5 more")
    assert max(map(len, message.splitlines())) < 200


def test_the_usual_reason_for_no_records_is_shown() -> None:
    message = Expectation(kind="event", name="seen").explain([], [])
    assert message.endswith("nothing was captured; a request submits its records when its response has ended")
