import copy
import pickle
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from sessionsight import Page, SessionSightIds, SignalIds, TrackingContext
from sessionsight.request.context import EMPTY_CONTEXT, OPTED_OUT, valid_id, valid_session_id

FULL = TrackingContext(
    sessionsight=SessionSightIds(session_id="session-1", visitor_id="visitor-1"),
    signal=SignalIds(session_id="s1", window_id="w1", distinct_id="d1"),
    user_id="user_1",
    anonymous_id="anonymous_1",
    page=Page(**{name: f"the {name}" for name in Page.__struct_fields__}),
)

session_ids = st.none() | st.from_regex(r"[A-Za-z0-9-]{1,128}", fullmatch=True)
ids = st.none() | st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=256).filter(valid_id)
facts = st.none() | st.text(min_size=1, max_size=500)
contexts = st.builds(
    TrackingContext,
    sessionsight=st.builds(SessionSightIds, session_id=session_ids, visitor_id=session_ids),
    signal=st.builds(SignalIds, session_id=ids, window_id=ids, distinct_id=ids),
    user_id=ids,
    anonymous_id=ids,
    page=st.fixed_dictionaries(dict.fromkeys(Page.__struct_fields__, facts)).map(lambda fields: Page(**fields)),
)
long_contexts = st.builds(
    TrackingContext,
    user_id=st.text(max_size=2000),
    page=st.fixed_dictionaries(dict.fromkeys(Page.__struct_fields__, st.text(max_size=2000))).map(
        lambda fields: Page(**fields)
    ),
)


@given(contexts)
def test_a_context_survives_a_round_trip_through_a_carrier(context: TrackingContext) -> None:
    assert TrackingContext.from_carrier(context.to_carrier()) == context


def test_a_carrier_contains_all_fields() -> None:
    assert len(FULL.to_carrier()) == 5 + 2 + len(Page.__struct_fields__)
    assert TrackingContext.from_carrier(FULL.to_carrier()) == FULL


@given(contexts | long_contexts)
def test_a_carrier_fits_the_limits_of_stripes_metadata(context: TrackingContext) -> None:
    carrier = context.to_carrier()
    assert len(carrier) <= 50
    assert all(0 < len(name) <= 40 and name.isascii() for name in carrier)
    assert all(0 < len(value) <= 500 for value in carrier.values())


def test_a_page_fact_that_is_too_long_is_left_out() -> None:
    context = TrackingContext(page=Page(url="https://shop.example/" + "x" * 500, path="/x"))
    assert context.to_carrier() == {"ss_page_path": "/x"}


def test_foreign_names_in_a_carrier_are_ignored() -> None:
    carrier = {"order_id": "o1", "ss_sid": "session-1", "ss_unknown": "x", "ss_page_unknown": "x", 5: "x"}
    assert TrackingContext.from_carrier(carrier) == TrackingContext(
        sessionsight=SessionSightIds(session_id="session-1")
    )


@pytest.mark.parametrize("carrier", [None, {}, ""])
def test_no_metadata_is_an_empty_context(carrier: Any) -> None:
    assert TrackingContext.from_carrier(carrier) == EMPTY_CONTEXT
    assert EMPTY_CONTEXT.to_carrier() == {}


@given(st.dictionaries(st.sampled_from(sorted(FULL.to_carrier())), st.none() | st.integers() | st.text() | st.binary()))
def test_from_carrier_never_raises_and_accepts_valid_ids_only(carrier: dict[str, object]) -> None:
    context = TrackingContext.from_carrier(carrier)
    for session_id in (context.sessionsight.session_id, context.sessionsight.visitor_id):
        assert session_id is None or valid_session_id(session_id)
    for other in (
        context.user_id,
        context.anonymous_id,
        *(getattr(context.signal, n) for n in FULL.signal.__struct_fields__),
    ):
        assert other is None or valid_id(other)


@pytest.mark.parametrize("value", ["", "a b", "a" * 129, "a_b", "ä", "a\n", "\u0661"])
def test_from_carrier_rejects_session_ids_that_sessionsight_rejects(value: str) -> None:
    assert TrackingContext.from_carrier({"ss_sid": value, "ss_vid": value}) == EMPTY_CONTEXT


@pytest.mark.parametrize("value", ["", " ", "a" * 257, "a\nb", "a\x00", "a\x85", 5.0, True, None, ["a"]])
def test_from_carrier_rejects_other_invalid_ids(value: Any) -> None:
    assert TrackingContext.from_carrier({"ss_user_id": value, "ss_signal_distinct_id": value}) == EMPTY_CONTEXT


# --- refusals -----------------------------------------------------------------------------------------


def test_the_carrier_of_a_refusal_contains_nothing_else() -> None:
    assert OPTED_OUT.to_carrier() == {"ss_opted_out": "1"}
    assert TrackingContext.from_carrier(OPTED_OUT.to_carrier()) == OPTED_OUT


@given(contexts)
def test_a_context_without_consent_contains_nothing_else(context: TrackingContext) -> None:
    ways = [
        TrackingContext(**{**asdict(context), "opted_out": True}),
        replace(context, opted_out=True),
        replace(OPTED_OUT, user_id=context.user_id, page=context.page),
        OPTED_OUT.with_user("user_1"),
        TrackingContext.from_carrier({**context.to_carrier(), **OPTED_OUT.to_carrier()}),
        msgspec.msgpack.decode(msgspec.msgpack.encode({**asdict(context), "opted_out": True}), type=TrackingContext),
        pickle.loads(pickle.dumps(replace(context, opted_out=True))),
        copy.deepcopy(replace(context, opted_out=True)),
    ]
    assert ways == [OPTED_OUT] * len(ways)
    assert {name for name, value in asdict(OPTED_OUT).items() if value != asdict(EMPTY_CONTEXT)[name]} == {"opted_out"}


@pytest.mark.parametrize("value", ["1", "0", "false", 1, True, 0, False, b"", ["x"]], ids=repr)
def test_a_refusal_with_a_converted_value_is_still_a_refusal(value: object) -> None:
    assert TrackingContext.from_carrier({"ss_opted_out": value, "ss_user_id": "user_1"}) == OPTED_OUT


@pytest.mark.parametrize("value", [None, ""])
def test_an_empty_value_is_not_a_refusal(value: object) -> None:
    assert TrackingContext.from_carrier({"ss_opted_out": value, "ss_user_id": "user_1"}).user_id == "user_1"


def test_the_session_id_for_display_is_signals_or_else_sessionsights() -> None:
    assert FULL.session_id == "s1"
    assert TrackingContext(sessionsight=SessionSightIds(session_id="x")).session_id == "x"
    assert EMPTY_CONTEXT.session_id is None


def test_with_user_changes_the_user_only() -> None:
    other = FULL.with_user("user_2")
    assert other.user_id == "user_2"
    assert other.with_user("user_1") == FULL
    assert FULL.with_user("user_1") is FULL
