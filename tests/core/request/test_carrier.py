"""Carriers come back from payment providers in their shapes, and are read or refused."""

import json
from array import array
from collections import defaultdict
from collections.abc import Callable
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionsight import TrackingContext
from sessionsight.request.context import EMPTY_CONTEXT, OPTED_OUT, valid_id, valid_session_id
from tests.core.request.test_context import FULL, contexts

Shape = Callable[[dict[str, Any]], Any]


class StripeObject:
    """Metadata as in stripe 15 and later: not a mapping; a missing name is a KeyError, or an AttributeError."""

    def __init__(self, data: dict[str, Any]) -> None:
        self._data = data

    def __getitem__(self, name: str) -> Any:
        return self._data[name]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._data[name]
        except KeyError:
            raise AttributeError(name) from None


class Attributes(StripeObject):
    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)


def pairs(name: str, **more: Any) -> Shape:
    return lambda carrier: [{**more, name: key, "value": value} for key, value in carrier.items()]


def inside(container: str, shape: Shape = dict) -> Shape:
    return lambda carrier: {"id": "in_1", "total": 4900, container: shape(carrier)}


SHAPES: dict[str, Shape] = {
    "a mapping": MappingProxyType,
    "stripe's object": StripeObject,
    "an object with attribute errors": Attributes,
    "paddle's CustomData": lambda carrier: SimpleNamespace(data=carrier),
    "shopify's note_attributes": pairs("name"),
    "woocommerce's meta_data": pairs("key", id=7),
    "paystack's custom_fields": pairs("variable_name", display_name="Analytics"),
    "json text": json.dumps,
    "json text of pairs": lambda carrier: json.dumps(pairs("name")(carrier)),
    "a stripe charge": inside("metadata"),
    "a stripe charge as an object": lambda carrier: StripeObject({"metadata": StripeObject(carrier)}),
    "a paddle transaction": inside("custom_data"),
    "the meta of lemon squeezy": inside("custom_data"),
    "a razorpay payment": inside("notes"),
    "a shopify order": inside("note_attributes", pairs("name")),
    "a woocommerce order": inside("meta_data", pairs("key")),
    "a braintree transaction": inside("custom_fields"),
    "a paystack transaction": inside("metadata", json.dumps),
    "paystack's metadata": inside("custom_fields", pairs("variable_name")),
}
shapes = pytest.mark.parametrize("shape", [pytest.param(shape, id=name) for name, shape in SHAPES.items()])


@shapes
@given(context=contexts)
def test_a_context_survives_a_round_trip_through_a_provider(shape: Shape, context: TrackingContext) -> None:
    assert TrackingContext.from_carrier(shape({"order_id": "1", **context.to_carrier()})) == context


@shapes
@pytest.mark.parametrize("value", ["1", 1, True, False], ids=repr)
def test_a_refusal_survives_a_round_trip_through_a_provider(shape: Shape, value: object) -> None:
    carrier = {"ss_user_id": "user_1", "ss_opted_out": value}
    assert TrackingContext.from_carrier(shape(carrier)) == OPTED_OUT


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    shape=st.sampled_from(sorted(SHAPES)).map(SHAPES.__getitem__),
    carrier=st.dictionaries(st.sampled_from(sorted(FULL.to_carrier())), json_values),
)
def test_only_valid_ids_are_accepted_in_any_shape(shape: Shape, carrier: dict[str, Any]) -> None:
    context = TrackingContext.from_carrier(shape(carrier))
    for session_id in (context.sessionsight.session_id, context.sessionsight.visitor_id):
        assert session_id is None or valid_session_id(session_id)
    signal = (context.signal.session_id, context.signal.window_id, context.signal.distinct_id)
    for other in (context.user_id, context.anonymous_id, *signal):
        assert other is None or valid_id(other)


@given(json_values | st.text() | st.binary() | st.lists(st.dictionaries(st.sampled_from(["name", "value"]), st.text())))
def test_no_content_raises(carrier: Any) -> None:
    TrackingContext.from_carrier(carrier)
    TrackingContext.from_carrier({"metadata": carrier, "notes": carrier})


@pytest.mark.parametrize("carrier", [[], {}, "{}", "[]", "null", {"metadata": None}, {"notes": []}], ids=repr)
def test_a_provider_without_metadata_gives_an_empty_context(carrier: Any) -> None:
    # PHP encodes an empty mapping as a list.
    assert TrackingContext.from_carrier(carrier) == EMPTY_CONTEXT


@given(contexts.filter(lambda context: context != EMPTY_CONTEXT), st.data())
def test_truncated_json_text_counts_as_a_refusal(context: TrackingContext, data: st.DataObject) -> None:
    text = json.dumps(context.to_carrier())
    truncated = text[: data.draw(st.integers(1, len(text) - 1))]
    assert TrackingContext.from_carrier(truncated) == OPTED_OUT
    assert TrackingContext.from_carrier({"metadata": truncated}) == OPTED_OUT


@pytest.mark.parametrize(
    "carrier",
    [
        5,
        b"{}",
        pytest.param(object(), id="an object"),
        "ss_sid=session-1",
        '"{}"',
        "[" * 100_000,
        "\ud800",
        ["ss_sid", "session-1"],
        [{"ss_sid": "session-1"}],
        array("i", [1]),
        SimpleNamespace(data=None),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_cannot_be_read_counts_as_a_refusal_and_is_logged(carrier: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert TrackingContext.from_carrier(carrier) == OPTED_OUT
    assert f"from this {type(carrier).__name__} (" in caplog.text


def test_reading_a_defaultdict_adds_nothing_to_it() -> None:
    carrier: dict[str, Any] = defaultdict(list, {"ss_user_id": "user_1"})
    assert TrackingContext.from_carrier(carrier).user_id == "user_1"
    assert carrier == {"ss_user_id": "user_1"}


@pytest.mark.parametrize(
    "note", ["Ring twice", "[gift] for Ann", " {{ name }}", "[1, 2", 5, ["fragile"], array("i", [1]), {1}], ids=repr
)
def test_other_contents_of_a_containers_field_are_ignored(note: object) -> None:
    assert TrackingContext.from_carrier({"notes": note, "ss_user_id": "user_1"}).user_id == "user_1"


def test_a_refusal_in_a_nested_carrier_takes_precedence_over_ids_next_to_it() -> None:
    assert TrackingContext.from_carrier({"ss_user_id": "user_1", "metadata": {"ss_opted_out": "1"}}) == OPTED_OUT


def test_the_first_value_of_a_name_counts_that_is_not_empty() -> None:
    values = [("ss_user_id", ""), ("ss_user_id", None), ("ss_user_id", "user_1"), ("ss_user_id", "user_2"), (5, "x")]
    carrier = [{"name": name, "value": value} for name, value in values] + [{"name": "ss_sid"}]
    assert TrackingContext.from_carrier(carrier) == TrackingContext(user_id="user_1")
    assert TrackingContext.from_carrier({"ss_user_id": "", "metadata": carrier}).user_id == "user_1"


@pytest.mark.parametrize(
    ("value", "read"),
    [(42, "42"), (0, "0"), (2**53 - 1, str(2**53 - 1)), (2**53, None), (10**5000, None), (True, None), (42.0, None)],
    ids=lambda value: repr(value)[:20] if value != 10**5000 else "huge",
)
def test_digits_that_became_an_integer_are_an_id(value: object, read: str | None) -> None:
    context = TrackingContext.from_carrier({"ss_user_id": value, "ss_sid": value, "ss_page_url": value})
    assert (context.user_id, context.sessionsight.session_id, context.page.url) == (read, read, None)
