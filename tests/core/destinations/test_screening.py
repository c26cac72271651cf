"""The families of SessionSight's screening are in the conformance table; here are the edges between them."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionsight.destinations.screening import js_string, objection, screen

LUHN_VALID = ["4242424242424242", "4111111111111111", "5105105105105100", "378282246310005", "6011111111111117"]


@pytest.mark.parametrize("number", LUHN_VALID)
@pytest.mark.parametrize("sentence", ["{}", "paid with {}", "{} 12/29", "1 {}", "nr {}-123", "{}."])
def test_a_card_number_is_found_whatever_digits_stand_beside_it(number: str, sentence: str) -> None:
    assert objection(sentence.format(number)) is not None


def test_a_card_number_needs_its_check_digit() -> None:
    assert objection("4242424242424241") is None


def test_the_reason_is_the_gravest() -> None:
    assert objection("Bearer abcdefgh at 10.0.0.1") == "an authorization header"


@given(st.uuids())
def test_a_uuid_always_stays(uuid: object) -> None:
    assert objection(str(uuid)) is None
    assert objection(str(uuid).upper()) is None


def test_a_uuid_hides_nothing_beside_it() -> None:
    uuid = "550e8400-e29b-41d4-a716-446655440000"
    assert objection(f"{uuid} 4242424242424242") == "a card number"
    assert objection(f"sk-{uuid}") == "an API key"
    assert objection(f"Bearer {uuid}") == "an authorization header"


@pytest.mark.parametrize("text", ["std::vector", "x::y", "12:30", "ratio 3:2", "::", "key:value", "a:b:c"])
def test_colons_alone_are_no_address(text: str) -> None:
    assert objection(text) is None


@pytest.mark.parametrize("text", ["١٢٣٤٥٦٧٨٩٠", "".join(map(chr, range(0xFF10, 0xFF1A)))])
def test_digits_of_other_scripts_are_none_as_in_javascript(text: str) -> None:
    assert objection(text) is None


def test_a_letter_of_another_script_ends_no_word_as_in_javascript() -> None:
    assert objection("é1234567890") == "a phone number"


@pytest.mark.parametrize("length", [7, 16])
def test_an_international_number_has_eight_to_fifteen_digits(length: int) -> None:
    assert objection("+" + "9" * length) is None
    assert objection("+" + "9" * 8) == objection("+" + "9" * 15) == "a phone number"


@pytest.mark.parametrize(
    "text",
    [
        "http://" * 9000,
        "eyJ-" * 16000,
        "1 " * 32000,
        "a:" * 32000,
        "9" * 64000,
        "AA11" * 16000,
        "+1(" * 20000,
        "x@y://" * 10000,
    ],
)
def test_no_text_hangs(text: str) -> None:
    # Where time grows with the square, this takes minutes, and pytest's faulthandler_timeout ends the run.
    objection(text)


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    objection(text)


def test_what_was_dropped_is_told_apart_by_name() -> None:
    assert screen({"a": "x", "b": "10.0.0.1"}) == ({"a": "x"}, {"b": "an IPv4 address"})


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
        ([], ""),
        ([None], ""),
        ([[1, 2], [3]], "1,2,3"),
        ([True, {"a": 1}], "true,[object Object]"),
        ({}, "[object Object]"),
        ("  as it is ", "  as it is "),
    ],
)
def test_values_become_strings_as_in_javascript(value: object, text: str) -> None:
    assert js_string(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_as_text_is_the_same_number(number: float) -> None:
    assert float(js_string(number)) == number
    assert len(js_string(number)) <= 26


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_any_json_value_becomes_a_string(value: object) -> None:
    assert isinstance(js_string(json.loads(json.dumps(value))), str)
