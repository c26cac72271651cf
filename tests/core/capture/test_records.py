import math
import uuid
from decimal import Decimal
from enum import IntEnum
from os import urandom
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sessionsight.capture.records import (
    Alias,
    EventRecord,
    Goal,
    Group,
    Identify,
    PersonProperties,
    QueuedRecord,
    Record,
    check_goal,
    record_id,
)
from sessionsight.errors import InvalidGoalError
from sessionsight.request.context import EMPTY_CONTEXT, TrackingContext

ENTROPY = bytes(10)


def event(name: str = "order_processed", **fields: Any) -> EventRecord:
    return EventRecord(name=name, **{"random": ENTROPY, "time": 1767225600.0, **fields})


# --- ids ---------------------------------------------------------------------------------------------


@given(st.binary(min_size=10, max_size=10), st.floats(0, 2**38 - 1))
def test_an_id_is_a_uuid_of_version_7_that_contains_the_time(entropy: bytes, time: float) -> None:
    found = uuid.UUID(record_id(event(random=entropy, time=time)))
    assert (found.version, found.variant) == (7, uuid.RFC_4122)
    assert found.int >> 80 == round(time * 1000)


def test_an_id_is_the_same_at_every_attempt_and_another_for_every_record() -> None:
    first, second = event(random=urandom(10)), event(random=urandom(10))
    assert record_id(first) == record_id(first)
    assert record_id(first) != record_id(second)


@given(st.lists(st.tuples(st.integers(0, 2**41), st.binary(min_size=10, max_size=10)), max_size=20))
def test_ids_sort_by_time(captured: list[tuple[int, bytes]]) -> None:
    ids = [record_id(event(time=ms / 1000, random=entropy)) for ms, entropy in captured]
    assert [int(text.replace("-", "")[:12], 16) for text in sorted(ids)] == sorted(ms for ms, _ in captured)


@pytest.mark.parametrize("time", [-1e12, 1e18])
def test_a_time_out_of_range_has_an_id_all_the_same(time: float) -> None:
    assert uuid.UUID(record_id(event(time=time))).version == 7


def test_an_id_of_a_key_depends_on_kind_name_and_key_alone() -> None:
    first = event(key="order:1", time=1.0, random=urandom(10), user_id="a")
    assert record_id(first) == record_id(event(key="order:1", time=2.0, random=urandom(10), user_id="b"))
    assert uuid.UUID(record_id(first)).version == 8
    goal = Goal(goal_id="order_processed", direction="increment", random=ENTROPY, time=1.0, key="order:1")
    refund = replace(goal, direction="decrement")
    others = [event(key="order:2"), event("order_paid", key="order:1"), goal, refund, event()]
    assert len({record_id(record) for record in [first, *others]}) == 6


def test_an_id_of_a_key_never_changes_from_version_to_version() -> None:
    assert record_id(event(key="order:1")) == "904f5461-07cc-8828-a181-4e0379af8dbc"


@given(st.text(st.characters()))
def test_every_key_has_an_id(key: str) -> None:
    assert uuid.UUID(record_id(event(key=key))).version == 8


# --- words -------------------------------------------------------------------------------------------


def test_each_record_says_its_kind_and_what_a_person_would_call_it() -> None:
    common: Any = {"random": ENTROPY, "time": 0.0}
    records: list[Record] = [
        EventRecord(name="order_processed", **common),
        Goal(goal_id="signups", direction="increment", **common),
        Identify(**common),
        PersonProperties(**common),
        Alias(alias="a1", **common),
        Group(group_type="company", group_key="acme", **common),
    ]
    assert [(record.kind, record.label) for record in records] == [
        ("event", "order_processed"),
        ("goal", "signups"),
        ("identify", "identify"),
        ("person_properties", "person_properties"),
        ("alias", "alias"),
        ("group", "group"),
    ]


def test_the_records_own_user_takes_precedence_over_the_requests() -> None:
    context = TrackingContext(user_id="request")
    assert QueuedRecord(event(user_id="record"), context).user_id == "record"
    assert QueuedRecord(event(), context).user_id == "request"
    assert QueuedRecord(event(), EMPTY_CONTEXT).user_id is None


# --- goals: the order and the rules of SessionSight's own SDK -----------------------------------------


@pytest.mark.parametrize("amount", [1, 49, 0.5, Decimal("49.90"), Decimal("1E+30"), 2**70])
def test_a_positive_number_is_an_amount(amount: Any) -> None:
    assert check_goal("signups", amount, None) is amount


class _Float(float):
    """As numpy's float64 is one."""


class _Decimal(Decimal):
    pass


class _Price(IntEnum):
    BOOK = 12


@pytest.mark.parametrize(
    ("amount", "plain"), [(_Float(49.5), 49.5), (_Price.BOOK, 12), (_Decimal("4.90"), Decimal("4.90"))]
)
def test_an_amount_of_a_kind_of_its_own_becomes_a_plain_number(amount: Any, plain: object) -> None:
    found = check_goal("signups", amount, None)
    assert (found, type(found)) == (plain, type(plain))


def test_the_amount_is_one_by_default() -> None:
    assert check_goal("signups", None, None) == 1


@pytest.mark.parametrize("goal_id", [None, "", "  \t", 5, b"signups", ["signups"]])
def test_a_goal_needs_the_slug_of_a_goal(goal_id: object) -> None:
    with pytest.raises(InvalidGoalError, match="goal_id must be the slug of a goal"):
        check_goal(goal_id, 1, "s1")


@pytest.mark.parametrize("amount", ["5", True, False, [], {}, 1j, b"6"])
def test_an_amount_is_a_number(amount: object) -> None:
    with pytest.raises(InvalidGoalError, match="goal 'signups': amount must be a number, not"):
        check_goal("signups", amount, "s1")


@pytest.mark.parametrize(
    "amount",
    [0, -1, 0.0, -0.5, math.nan, math.inf, -math.inf, Decimal(0), Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity")],
)
def test_an_amount_is_above_zero_and_finite(amount: object) -> None:
    with pytest.raises(InvalidGoalError, match="goal 'signups': amount must be above zero and finite, not"):
        check_goal("signups", amount, "s1")


def test_an_amount_that_the_vendor_would_read_as_zero_or_infinite_is_refused() -> None:
    for amount in (10**400, 10**5000, Decimal("1E+400"), Decimal("1E-400")):
        with pytest.raises(InvalidGoalError, match="above zero and finite"):
            check_goal("signups", amount, "s1")


@pytest.mark.parametrize("session_id", [" ", "\t\n", 5, ["s1"], b"s1"])
def test_a_session_id_of_ones_own_is_a_session_id(session_id: object) -> None:
    with pytest.raises(InvalidGoalError, match="goal 'signups': session_id must be a session id, not"):
        check_goal("signups", 1, session_id)


@pytest.mark.parametrize("session_id", [None, "", "s1", " s1 "])
def test_an_empty_session_id_falls_back_to_the_requests(session_id: object) -> None:
    assert check_goal("signups", 2, session_id) == 2


@pytest.mark.parametrize(
    ("goal_id", "amount", "session_id", "named"),
    [("", 0, " ", "goal_id"), ("g", "x", " ", "amount"), ("g", 0, " ", "amount"), ("g", 1, " ", "session_id")],
)
def test_the_first_wrong_argument_is_named(goal_id: str, amount: object, session_id: str, named: str) -> None:
    with pytest.raises(InvalidGoalError, match=named):
        check_goal(goal_id, amount, session_id)


def test_an_error_shows_neither_long_nor_private_values() -> None:
    with pytest.raises(InvalidGoalError) as caught:
        check_goal("signups", 1, {"card": "4242"})
    assert "4242" not in str(caught.value)
    with pytest.raises(InvalidGoalError) as caught:
        check_goal("x" * 10_000, 0, None)
    assert len(str(caught.value)) < 200
