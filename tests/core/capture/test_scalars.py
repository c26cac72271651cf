"""Numbers, times and missing values of other libraries: the same wherever a value is taken."""

import datetime as dt
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest

from sessionsight import InvalidEventError, InvalidGoalError
from sessionsight.capture.encoding import PropertyEncoder, decode
from sessionsight.capture.records import check_goal
from sessionsight.capture.validation import record_fields, to_timestamp, validate_group, validate_id

DAY = dt.datetime(2026, 1, 2, 3, 4, 5, 600)
RECORD = np.array([(1, 2.5)], dtype=[("id", "i4"), ("price", "f8")])

VALUES: list[tuple[Any, Any]] = [
    *((np.dtype(code).type(3), 3) for code in "bhilqBHILQ"),
    *((np.dtype(code).type(1.5), 1.5) for code in "efdg"),
    (np.bool_(True), True),
    (np.str_("text"), "text"),
    (np.bytes_(b"ab"), "YWI="),
    (np.void(b"ab"), "YWI="),
    (RECORD[0], {"id": 1, "price": 2.5}),
    (np.float32("nan"), None),
    (np.float64("inf"), None),
    (np.longdouble("nan"), None),
    (np.datetime64("2026-01-02"), "2026-01-02"),
    (np.datetime64("2026-01-02T03:04:05.000600700", "ns"), "2026-01-02T03:04:05.000600"),
    (np.datetime64("2026-01-02T03:04:05", "s"), "2026-01-02T03:04:05"),
    (np.datetime64("12026-01-02T03", "h"), "12026-01-02T03"),
    (np.datetime64("NaT", "s"), None),
    (np.timedelta64(90, "s"), "PT90S"),
    (np.timedelta64(90_000_000_000, "ns"), "PT90S"),
    (np.timedelta64("NaT", "s"), None),
    (pd.NA, None),
    (pd.NaT, None),
    (pd.Timestamp(DAY), "2026-01-02T03:04:05.000600"),
    (pd.Timestamp("2026-01-02T03:04:05.000600789", tz="UTC"), "2026-01-02T03:04:05.000600Z"),
    (pd.Timedelta("90s"), "PT90S"),
    (pd.Period("2026-01"), "2026-01"),
    (pd.Interval(0, 5), "(0, 5]"),
    (pd.Categorical(["a", "b"])[0], "a"),
    (np.array(5), 5),
    (np.array([1, 2]), [1, 2]),
    (np.array([[1.5, np.nan]]), [[1.5, None]]),
    (np.array(["2026-01-02"], dtype="M8[ns]"), ["2026-01-02T00:00:00"]),
    (np.array([None, {1}], dtype=object), [None, [1]]),
    (RECORD, [[1, 2.5]]),
    (np.ma.masked, None),
    (np.ma.array([1, 2], mask=[False, True]), [1, None]),
    (pd.Series([1.5, None]), [1.5, None]),
    (pd.Series([1, None], dtype="Int64"), [1, None]),
    (pd.Series([pd.Timestamp(DAY), pd.NaT]), ["2026-01-02T03:04:05.000600", None]),
    (pd.Series(["pro", "pro", "free"]).value_counts(), {"pro": 2, "free": 1}),
    (pd.DataFrame({"id": [1, 2], "plan": ["pro", None]}).iloc[0], {"id": 1, "plan": "pro"}),
    (pd.DataFrame({"id": [1, 2], "plan": ["pro", None]}), [{"id": 1, "plan": "pro"}, {"id": 2, "plan": None}]),
    (pd.Index([1, 2]), [1, 2]),
    (pd.DatetimeIndex(["2026-01-02"]), ["2026-01-02T00:00:00"]),
    (pd.Categorical(["a", "b"]), ["a", "b"]),
    (pd.array([True, None], dtype="boolean"), [True, None]),
    (Fraction(5, 2), 2.5),
    ({np.int64(5): 1, pd.NA: 2, pd.Timestamp(DAY): 3}, {"5": 1, "null": 2, "2026-01-02T03:04:05.000600": 3}),
    ({np.int64(2), np.int64(1)}, [1, 2]),
]


@pytest.mark.parametrize(
    ("value", "expected"), VALUES, ids=[f"{number} {type(value).__name__}" for number, (value, _) in enumerate(VALUES)]
)
@pytest.mark.parametrize("depth", [0, 2])
def test_a_property_is_the_python_value_at_any_depth(value: Any, expected: Any, depth: int) -> None:
    told: list[type] = []
    for _ in range(depth):
        value, expected = [value], [expected]
    found = decode(PropertyEncoder(unknown=told.append)({"value": value}))["value"]
    assert found == expected
    assert told == []


@pytest.mark.parametrize(
    "value",
    [np.complex64(1), np.clongdouble(1), np.dtype("i4"), np.zeros(40_000), pd.DataFrame({"a": range(40_000)})],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_json_or_cannot_fit_is_named_by_its_type(value: Any) -> None:
    told: list[type] = []
    encoded = PropertyEncoder(unknown=told.append)({"value": value})
    assert decode(encoded) == {"value": f"<{type(value).__name__}>"}
    assert told == [type(value)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(np.int64(7), "7"), (np.uint8(7), "7"), (np.array(7), "7"), (np.str_("u7"), "u7")],
    ids=repr,
)
def test_an_id_is_the_python_value(value: Any, expected: str) -> None:
    assert validate_id(value, "user_id") == expected
    assert validate_group("company", value) == ("company", expected)


@pytest.mark.parametrize("value", [pd.NA, pd.NaT, float("nan"), np.float64("nan"), np.datetime64("NaT", "s")], ids=repr)
def test_a_missing_id_is_not_an_id(value: Any) -> None:
    assert validate_id(value, "user_id") is None


@pytest.mark.parametrize(
    "value", [np.bool_(True), np.float64(7), np.float32(7.5), np.array([7]), pd.Timestamp(DAY)], ids=repr
)
def test_an_id_that_would_be_refused_in_python_is_refused(value: Any) -> None:
    with pytest.raises(InvalidEventError, match=f"user_id must be a string .*, not {type(value).__name__}"):
        validate_id(value, "user_id")


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        (np.int64(49), 49),
        (np.uint8(49), 49),
        (np.float32(2.5), 2.5),
        (np.float64(2.5), 2.5),
        (np.longdouble(2.5), 2.5),
        (np.array(49), 49),
        (Fraction(499, 10), 49.9),
        (pd.array([Decimal("4.90")])[0], Decimal("4.90")),
    ],
    ids=repr,
)
def test_an_amount_is_the_python_value(amount: Any, expected: Any) -> None:
    found = check_goal("signups", amount, None)
    assert (found, type(found)) == (expected, type(expected))


class Price(Enum):
    BOOK = Decimal("4.90")
    GIFT = "0"
    FREE = False


def test_an_amount_may_be_an_enums_value_that_is_a_number() -> None:
    assert check_goal("signups", Price.BOOK, None) == Decimal("4.90")
    for amount in (Price.GIFT, Price.FREE):
        with pytest.raises(InvalidGoalError, match="amount must be a number, not a Price"):
            check_goal("signups", amount, None)


@pytest.mark.parametrize(
    "amount", [np.bool_(True), np.str_("5"), np.array([5]), pd.NA, pd.NaT, np.complex64(1)], ids=repr
)
def test_an_amount_that_is_not_a_number_is_rejected(amount: Any) -> None:
    with pytest.raises(InvalidGoalError, match="amount must be a number, not"):
        check_goal("signups", amount, None)


@pytest.mark.parametrize(
    "amount", [np.float32("nan"), np.float64("inf"), np.int64(0), np.int8(-1), Fraction(-1, 2)], ids=repr
)
def test_an_amount_of_another_library_is_above_zero_and_finite(amount: Any) -> None:
    with pytest.raises(InvalidGoalError, match="amount must be above zero and finite, not"):
        check_goal("signups", amount, None)


@pytest.mark.parametrize(
    "value", [pd.Timestamp(DAY), np.datetime64(DAY), np.datetime64(DAY).astype("M8[ns]")], ids=repr
)
def test_a_timestamp_is_the_python_value(value: Any) -> None:
    assert to_timestamp(value) == DAY.replace(tzinfo=dt.UTC).timestamp()
    assert to_timestamp(value, ZoneInfo("Asia/Tokyo")) == DAY.replace(tzinfo=ZoneInfo("Asia/Tokyo")).timestamp()


@pytest.mark.parametrize("value", [pd.NaT, np.datetime64("NaT", "s")], ids=repr)
def test_a_missing_timestamp_leaves_the_time_of_the_call(value: Any) -> None:
    assert record_fields({"timestamp": value}, frozenset()) == {}


@pytest.mark.parametrize("value", [np.int64(5), pd.Timedelta("5s"), np.datetime64("12026-01-01T00", "s")], ids=repr)
def test_a_timestamp_that_is_not_a_time_is_rejected(value: Any) -> None:
    with pytest.raises(InvalidEventError, match="timestamp must be a datetime, not"):
        to_timestamp(value)


def test_scalars_of_pyarrow_and_bson_become_the_value_they_convert_to() -> None:
    class Scalar:
        def as_py(self) -> int:
            return 5

    class Decimal128:
        def to_decimal(self) -> Decimal:
            return Decimal("49.90")

    assert decode(PropertyEncoder()({"arrow": Scalar(), "bson": Decimal128()})) == {
        "arrow": 5,
        "bson": Decimal("49.90"),
    }
