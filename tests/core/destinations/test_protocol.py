"""Contract of the destination protocol, for all four vendors."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sessionsight.capture.encoding import decode
from sessionsight.capture.records import (
    Alias,
    EventRecord,
    FeedbackRecord,
    Goal,
    Group,
    Identify,
    PersonProperties,
    QueuedRecord,
    Record,
    record_id,
)
from sessionsight.destinations import from_options
from sessionsight.destinations.base import Destination, VendorRequest
from sessionsight.request.context import Page, SessionSightIds, SignalIds, TrackingContext
from tests.conformance.facts.fact import KEYS, destination
from tests.core.destinations.factories import (
    EVERYBODY,
    NOW,
    alias,
    entry,
    event,
    feedback,
    goal,
    group,
    identify,
    person,
)

EVERY_KIND: list[Record] = [
    event(),
    goal(),
    identify(),
    person({"a": 1}),
    alias("a"),
    group("t", "k", {"a": 1}),
    feedback(answer={"option": "9"}),
]
VENDORS = [destination(name) for name in KEYS]
each_vendor = pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)

ids = st.none() | st.text(min_size=1, max_size=8)
contexts = st.builds(
    TrackingContext,
    user_id=ids,
    anonymous_id=ids,
    sessionsight=st.builds(SessionSightIds, session_id=ids, visitor_id=ids),
    signal=st.builds(SignalIds, session_id=ids, window_id=ids, distinct_id=ids),
    page=st.builds(Page, url=ids, path=ids, referrer=ids, utm_source=ids),
)
properties = st.sampled_from([{}, {"a": 1}, {"a": None, "b": ["x", {}]}, {"amount": 4900, "currency": "USD"}])
given_ids = {"user_id": ids, "distinct_id": ids, "anonymous_id": ids, "key": ids}
names = st.text(min_size=1, max_size=8)
records: st.SearchStrategy[Record] = st.one_of(
    st.builds(
        event, names, properties, groups=st.none() | st.just({"company": "acme"}), standard=st.booleans(), **given_ids
    ),
    st.builds(
        goal, names, st.sampled_from(["increment", "decrement"]), metadata=properties, session_id=ids, **given_ids
    ),
    st.builds(identify, properties, **given_ids),
    st.builds(person, properties, once=st.booleans(), **given_ids),
    st.builds(alias, names, **given_ids),
    st.builds(group, names, names, properties, **given_ids),
    st.builds(feedback, names, st.sampled_from([{}, {"message": "x"}]), session_id=ids, **given_ids),
)


def acceptable(vendor: Destination, entries: list[QueuedRecord]) -> list[QueuedRecord]:
    return [
        one
        for one in entries
        if vendor.supports(type(one.record)) and vendor.drop_reason(one.record, one.context) is None
    ]


@each_vendor
@given(entries=st.lists(st.builds(QueuedRecord, records, contexts), max_size=6))
def test_each_entry_is_in_exactly_one_call(vendor: Destination, entries: list[QueuedRecord]) -> None:
    entries = acceptable(vendor, entries)
    calls = list(vendor.build_requests(entries, now=NOW))
    carried = Counter(id(one) for call in calls for one in call.entries)
    assert carried == Counter(map(id, entries))
    for call in calls:
        assert call.entries
        assert isinstance(decode(call.body), dict)
        assert all(value.isascii() and value.isprintable() for value in call.headers.values())


@each_vendor
@given(one=st.builds(QueuedRecord, records, contexts))
def test_the_same_entry_gives_the_same_call(vendor: Destination, one: QueuedRecord) -> None:
    entries = acceptable(vendor, [one])
    assert list(vendor.build_requests(entries, now=NOW)) == list(vendor.build_requests(entries, now=NOW))


@each_vendor
def test_kinds_that_have_no_place_are_not_taken(vendor: Destination) -> None:
    taken = {
        "sessionsight": {Goal, FeedbackRecord},
        "signal": {EventRecord, Identify, PersonProperties, Alias, Group},
        "saytics": {EventRecord, Identify},
        "analyse": {EventRecord, Identify},
    }[vendor.name]
    assert {type(record) for record in EVERY_KIND if vendor.supports(type(record))} == taken


OF_ONE_VENDOR = {
    "ss-session": {"sessionsight"},
    "signal-session": {"signal"},
    "signal-window": {"signal"},
    "signal-distinct": {"signal"},
    "ss-visitor": {"saytics", "analyse"},
    "site-anonymous": {"saytics", "analyse"},
    "user_1": {"signal", "saytics", "analyse"},
    "203.0.113.9": set[str](),
    "Mozilla": set[str](),
}


@each_vendor
@pytest.mark.parametrize("known", OF_ONE_VENDOR)
@pytest.mark.parametrize("without", ["nothing", "user_id", "anonymous_id", "signal", "sessionsight"])
def test_no_id_reaches_a_vendor_that_it_is_not_for(vendor: Destination, known: str, without: str) -> None:
    """Not even when the vendor's own id is missing."""
    missing = {"signal": SignalIds(), "sessionsight": SessionSightIds()}
    context = EVERYBODY if without == "nothing" else replace(EVERYBODY, **{without: missing.get(without)})
    entries = acceptable(vendor, [entry(record, context) for record in EVERY_KIND])
    for call in vendor.build_requests(entries, now=NOW):
        said = f"{call.url} {call.headers} {call.body.decode()}"
        if known in said:
            assert vendor.name in OF_ONE_VENDOR[known]


@each_vendor
def test_an_idempotency_key_is_the_records_own_id_except_at_sessionsight(vendor: Destination) -> None:
    record = next(record for record in EVERY_KIND if vendor.supports(type(record)))
    [call] = vendor.build_requests([entry(record, EVERYBODY)], now=NOW)
    expected = None if vendor.name == "sessionsight" else record_id(record)
    assert call.headers.get("Idempotency-Key") == expected


@each_vendor
def test_an_idempotency_key_stays_the_same_for_the_callers_key(vendor: Destination) -> None:
    first, second = event(key="order:1"), event(key="order:1", time=99.0, random=b"x" * 10)
    if vendor.supports(EventRecord):
        [call], [later] = (vendor.build_requests([entry(record, EVERYBODY)], now=NOW) for record in (first, second))
        assert call.headers == later.headers


@each_vendor
def test_no_entries_no_calls(vendor: Destination) -> None:
    assert list(vendor.build_requests([], now=NOW)) == []


@each_vendor
def test_a_lone_surrogate_in_a_name_or_id_becomes_the_replacement_character(vendor: Destination) -> None:
    context = EVERYBODY.with_user("u\ud800")
    record = goal("a\ud800") if vendor.supports(Goal) else event("a\ud800", {"n": 1.5}, groups={"g": "\udfff"})
    [call] = vendor.build_requests([entry(record, context)], now=NOW)
    assert "a\ufffd" in call.body.decode("utf-8")


@each_vendor
def test_a_key_may_come_from_a_function_and_is_asked_for_at_each_call(vendor: Destination) -> None:
    keys = iter(["first\n", "second\n"])
    [option] = [name for name in KEYS[vendor.name] if name.endswith("key")]
    rotating = destination(vendor.name, {option: lambda: next(keys)})
    record = next(record for record in EVERY_KIND if rotating.supports(type(record)))
    for key in ("first", "second"):
        [call] = rotating.build_requests([entry(record, EVERYBODY)], now=NOW)
        assert key in f"{call.headers} {call.body!r}"
        assert f"{key}\\n" not in f"{call.headers} {call.body!r}"


@each_vendor
def test_no_key_is_in_a_repr(vendor: Destination) -> None:
    [call] = vendor.build_requests(
        acceptable(vendor, [entry(EVERY_KIND[0], EVERYBODY), entry(EVERY_KIND[1], EVERYBODY)]), now=NOW
    )
    for value in KEYS[vendor.name].values():
        assert value not in repr(vendor) or value == "shop"
        assert value not in repr(call)


def test_a_calls_repr_leaves_out_the_query_of_its_address() -> None:
    call = VendorRequest(url="https://example.com/take?api_secret=abc", headers={}, body=b"", entries=())
    assert repr(call) == "VendorRequest(POST https://example.com/take, 0 entries)"


@each_vendor
def test_a_destination_is_a_value(vendor: Destination) -> None:
    again = from_options(vendor.name, KEYS[vendor.name])
    assert again == vendor
    assert hash(again) == hash(vendor)
    with pytest.raises(AttributeError):
        again.name = "other"  # type: ignore[misc]


def test_an_anonymous_visitor_is_known_by_the_first_id_there_is() -> None:
    def known(vendor: Destination, record: EventRecord, context: TrackingContext) -> Any:
        [call] = vendor.build_requests([entry(record, context)], now=NOW)
        body = decode(call.body)
        return body.get("anonymousId") or body["events"][0]["anonymous_id"]

    for name in ("saytics", "analyse"):
        vendor = destination(name)
        visitor = TrackingContext(sessionsight=EVERYBODY.sessionsight)
        assert known(vendor, event(anonymous_id="given"), EVERYBODY) == "given"
        assert known(vendor, event(), EVERYBODY) == "site-anonymous"
        assert known(vendor, event(), visitor) == "ss-visitor"


@pytest.mark.parametrize("vendor", [destination("sessionsight"), destination("signal")], ids=lambda vendor: vendor.name)
def test_a_record_of_a_kind_that_is_not_supported_is_left_out(vendor: Destination) -> None:
    [unsupported] = [record for record in (goal(), identify()) if not vendor.supports(type(record))]
    requests = list(vendor.build_requests([entry(unsupported)], now=NOW))
    assert [decode(request.body)["events"] for request in requests] in ([], [[]])
