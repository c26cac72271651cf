"""Properties cut down to a vendor's limits."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionsight.capture.encoding import encode
from sessionsight.destinations.property_limits import PropertyLimits

FIT = PropertyLimits(max_string=8, max_array=2)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=3), VALUES, max_size=4)


def scalar(value: Any) -> bool:
    return isinstance(value, bool | int) or (isinstance(value, str) and len(value.encode("utf-16-le")) <= 16)


@given(OBJECTS)
def test_what_was_fitted_keeps_all_limits(properties: dict[str, Any]) -> None:
    for value in FIT(properties).values():
        assert scalar(value) or (isinstance(value, list) and len(value) <= 2 and all(map(scalar, value)))


@given(OBJECTS)
def test_a_yes_of_the_quick_test_is_never_wrong(properties: dict[str, Any]) -> None:
    if FIT.fits(encode(properties)):
        assert FIT(properties) == properties


@given(OBJECTS)
def test_fitting_twice_changes_nothing(properties: dict[str, Any]) -> None:
    once = FIT(properties)
    assert FIT(once) == once


@given(OBJECTS)
def test_without_limits_nothing_changes(properties: dict[str, Any]) -> None:
    limits = PropertyLimits(max_string=None, max_array=None, nested="keep", nulls="keep")
    assert limits.fits(encode(properties))
    assert limits(properties) == properties


@pytest.mark.parametrize("properties", [{"a": "x" * 8, "b": 1234}, {"a": 1, "b": True, "c": "12345678"}, {}])
def test_usual_properties_are_not_opened(properties: dict[str, Any]) -> None:
    assert FIT.fits(encode(properties))


@pytest.mark.parametrize(
    "properties",
    [{"a": "x" * 9}, {"a": [1, 2, 3]}, {"a": {"b": 1}}, {"a": None}, {"a": 'x"xxxxxxxx'}, {"a": "\U0001f600" * 5}],
)
def test_what_does_not_fit_is_found(properties: dict[str, Any]) -> None:
    assert not FIT.fits(encode(properties))
    assert FIT(properties) != properties


def test_a_name_given_by_the_caller_is_not_overwritten_in_any_order() -> None:
    assert FIT({"a": {"b": 1}, "a_b": 2}) == {"a_b": 2}
    assert FIT({"a_b": 2, "a": {"b": 1}}) == {"a_b": 2}
