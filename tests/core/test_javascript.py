"""White space and string conversion by JavaScript's rules."""

import json
import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionsight.javascript import WHITESPACE, is_blank, length, nonfinite_as_text, to_string, trim


def test_white_space_is_that_of_javascript() -> None:
    # From `Array.from({length: 65536}, (_, i) => i).filter(i => String.fromCharCode(i).trim() === "")`.
    ranges = [(9, 13), (32, 32), (160, 160), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F)]
    ranges += [(0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)]
    assert set(map(ord, WHITESPACE)) == {code for first, last in ranges for code in range(first, last + 1)}


@pytest.mark.parametrize(("text", "units"), [("", 0), ("abc", 3), ("\xe9", 1), ("\U0001f600", 2), ("\ud800a", 2)])
def test_length_is_that_of_javascript(text: str, units: int) -> None:
    assert length(text) == units


@pytest.mark.parametrize("text", ["", " ", "\ufeff", "\u00a0\u202f", "\r\n\v\f"])
def test_blank_text(text: str) -> None:
    assert is_blank(text)
    assert not trim(text)


@pytest.mark.parametrize("text", ["\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\u180e", "\u200b", "\x00", "a"])
def test_text_that_is_not_blank(text: str) -> None:
    assert not is_blank(text)
    assert trim(f" {text}\ufeff") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-7, "-7"),
        (10**21, "1e+21"),
        (10**20, "100000000000000000000"),
        (10**400, "Infinity"),
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (49.9, "49.9"),
        (-0.5, "-0.5"),
        (1e20, "100000000000000000000"),
        (1.5e21, "1.5e+21"),
        (123e-20, "1.23e-18"),
        (0.000001, "0.000001"),
        (0.0000001, "1e-7"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (math.nan, "NaN"),
        (2**53 + 1, "9007199254740993"),
        (10**21 - 1, "999999999999999999999"),
        (-(10**21), "-1e+21"),
        (0.1, "0.1"),
        (0.1 + 0.2, "0.30000000000000004"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (100.0, "100"),
        (Decimal("49.90"), "49.9"),
        (Decimal("1E+30"), "1e+30"),
        (Decimal("1E+400"), "Infinity"),
        (Decimal(-0), "0"),
        ([], ""),
        ([None], ""),
        ([[1, 2], [3]], "1,2,3"),
        ([True, {"a": 1}], "true,[object Object]"),
        ({}, "[object Object]"),
        ("  as it is ", "  as it is "),
    ],
)
def test_values_are_converted_to_strings_as_in_javascript(value: object, text: str) -> None:
    assert to_string(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_as_text_is_the_same_number(number: float) -> None:
    assert float(to_string(number)) == number
    assert len(to_string(number)) <= 26


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_any_json_value_becomes_a_string(value: object) -> None:
    assert isinstance(to_string(json.loads(json.dumps(value))), str)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (Decimal("NaN"), "NaN"),
        (Decimal("sNaN"), "NaN"),
        (Decimal("Infinity"), "Infinity"),
        (Decimal("-Infinity"), "-Infinity"),
        ([math.nan, (math.inf, 1.5)], ["NaN", ["Infinity", 1.5]]),
        (1.5, 1.5),
        (Decimal("1.5"), Decimal("1.5")),
        (10**400, 10**400),
        (True, True),
        ("NaN", "NaN"),
        ({"a": 1}, {"a": 1}),
        (None, None),
    ],
)
def test_nonfinite_numbers_become_text(value: object, text: object) -> None:
    assert nonfinite_as_text(value) == text


def test_a_recursive_list_is_left_to_the_encoder() -> None:
    circular: list[object] = []
    circular.append(circular)
    nonfinite_as_text(circular)
