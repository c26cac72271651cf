"""Values against the annotations of typed events."""

import dataclasses
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from types import GenericAlias
from typing import Any, AnyStr, Literal, NewType, Protocol, TypedDict

import numpy as np
import pytest
from msgspec import UNSET, UnsetType

from sessionsight.capture.type_checks import TypeCheck


class Carrier(Enum):
    POST = "post"


@dataclasses.dataclass
class InvoicePaid:
    number: int


class Address(TypedDict):
    street: str


class Sized(Protocol):
    size: int


OrderId = NewType("OrderId", str)

VALUES: list[tuple[Any, Any, bool]] = [
    (date(2026, 1, 1), date, True),
    (datetime(2026, 1, 1, tzinfo=UTC), date, True),
    (np.datetime64("2026-01-01T00", "ns"), datetime, True),
    (np.datetime64("NaT", "s"), datetime, False),
    (np.datetime64("NaT", "s"), datetime | None, True),
    (float("nan"), float, False),
    (1, float, True),
    (True, int, False),
    (True, bool, True),
    (np.bool_(True), bool, True),
    (1, bool, False),
    (1.5, int, False),
    (Carrier.POST, str, True),
    (Carrier.POST, Literal["post"], True),
    (1, Literal[True], False),
    ({"a": 1}, dict[str, int], True),
    ({"a": "1"}, dict[str, int], False),
    ({1: 1}, dict[str, int], False),
    (("a", 1), tuple[str, int], True),
    (("a",), tuple[str, int], False),
    (("a", "b"), tuple[str, ...], True),
    (("a", 1), tuple[str, ...], False),
    ({"a"}, set[str], True),
    (InvoicePaid(number=5), InvoicePaid, True),
    (5, InvoicePaid, False),
    (object(), Any, True),
    (object(), object, True),
    (print, Callable[[], None], True),
    (UNSET, Any, False),
    (UNSET, object, False),
    (UNSET, str | UnsetType, True),
    (None, None, True),
    ({"a": None}, dict[str, None], True),
    ({"a": 5}, dict[str, None], False),
    (["a"], GenericAlias(list, (AnyStr,)), True),
    (None, str, False),
    ("a", OrderId, True),
    (5, OrderId, False),
    ({"street": "a"}, Address, True),
    ("a", Address, False),
    (5, Sized, True),
]


@pytest.mark.parametrize(("value", "hint", "fits"), VALUES, ids=map(str, range(len(VALUES))))
def test_a_value_is_held_against_a_type(value: Any, hint: Any, fits: bool) -> None:
    assert (TypeCheck(hint)(value) is None) is fits


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (str, "a string"),
        (bool | None, "True or False"),
        (int, "an integer"),
        (float, "a number"),
        (int | float | Decimal | UnsetType | None, "a number"),
        (Decimal, "a Decimal"),
        (int | str, "an integer or a string"),
        (date | datetime | str, "a date"),
        (datetime, "a datetime"),
        (Literal["a"], "a"),
        (Literal["a", "b"] | None, "one of a, b"),
        (Carrier, "a member of Carrier"),
        (InvoicePaid, "an InvoicePaid"),
        (list[str], "list[str]"),
        (Mapping[str, Any], "a mapping of names to values"),
        (dict[str, int] | None, "a mapping of names to values"),
    ],
    ids=str,
)
def test_what_a_type_wants_is_said_in_words(hint: Any, expected: str) -> None:
    assert TypeCheck(hint)(b"neither") == expected
