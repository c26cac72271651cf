"""Saytics' events and identifications."""

from decimal import Decimal
from typing import Any

from sessionsight.capture.records import DropReason
from sessionsight.request.context import TrackingContext
from tests.conformance.facts.fact import OURS, Fact, Request
from tests.core.destinations.factories import (
    EVERYBODY,
    NOBODY,
    RECORD_ID,
    TIMESTAMP,
    USER,
    VISITOR,
    entry,
    event,
    identify,
)

API = "https://docs.saytics.com/api-reference"
INTRODUCTION, EVENTS, USERS = f"{API}/introduction", f"{API}/events", f"{API}/users"
PROPERTIES = "https://docs.saytics.com/concepts/properties"
IDENTIFY = "https://docs.saytics.com/tracking/identify"

HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer sk_live_1"}
SINGLE = {**HEADERS, "Idempotency-Key": RECORD_ID}
BASE = "https://api.saytics.com"
EVENT = {"event": "Report Exported", "userId": "user_1", "timestamp": TIMESTAMP}


def sent(url: str = f"{BASE}/v1/events", **changes: Any) -> list[Request]:
    body = {name: value for name, value in {**EVENT, **changes}.items() if value is not None}
    return [Request(url, SINGLE, body)]


def case(id_: str, source: str, record: Any, requests: list[Request], **rest: Any) -> Fact:
    return Fact(f"saytics: {id_}", source, "saytics", [record], requests, **{"context": USER, **rest})


def value(id_: str, given: Any, wire: Any, source: str = PROPERTIES, **options: Any) -> Fact:
    """A property value, and what it is on the wire."""
    return case(
        f"property, {id_}", source, event(properties={"p": given}), sent(properties={"p": wire}), options=options
    )


def fitted(id_: str, given: dict[str, Any], wire: dict[str, Any] | None, **options: Any) -> Fact:
    return case(f"properties, {id_}", OURS, event(properties=given), sent(properties=wire), options=options)


def person(traits: Any = None, user_id: str = "user_1") -> Request:
    body = {"userId": user_id} if traits is None else {"userId": user_id, "traits": traits}
    return Request(f"{BASE}/v1/users/identify", SINGLE, body)


FACTS = [
    # Endpoints
    case("one event", EVENTS, event(), sent()),
    Fact(
        "saytics: several events are a batch, in their order",
        EVENTS,
        "saytics",
        [event("A"), entry(event("B"), TrackingContext(user_id="user_2"))],
        [
            Request(
                f"{BASE}/v1/events/batch",
                HEADERS,
                {
                    "events": [
                        {"event": "A", "userId": "user_1", "timestamp": TIMESTAMP},
                        {"event": "B", "userId": "user_2", "timestamp": TIMESTAMP},
                    ]
                },
            )
        ],
        context=USER,
    ),
    case("identify", USERS, identify({"name": "Ada", "plan": "pro"}), [person({"name": "Ada", "plan": "pro"})]),
    case("identify without traits", IDENTIFY, identify(), [person()]),
    case(
        "reserved traits go out as given",
        IDENTIFY,
        identify({"email": "a@example.com", "created_at": "2026-01-01T00:00:00Z", "avatar": "https://example.com/a"}),
        [person({"email": "a@example.com", "created_at": "2026-01-01T00:00:00Z", "avatar": "https://example.com/a"})],
    ),
    case("identify knows no anonymous id", USERS, identify(), [person()], context=EVERYBODY),
    Fact(
        "saytics: identifications go first, one call each",
        OURS,
        "saytics",
        [event("A"), identify({"a": 1}), identify({"b": 2}, user_id="user_2")],
        [person({"a": 1}), person({"b": 2}, "user_2"), *sent(event="A")],
        context=USER,
    ),
    case(
        "the address is an option, without the version",
        INTRODUCTION,
        event(),
        sent("https://eu.example.com/v1/events"),
        options={"api_url": "https://eu.example.com/"},
    ),
    # Event fields
    case("the event's name as given", EVENTS, event("report_EXPORTED "), sent(event="report_EXPORTED ")),
    case(
        "the anonymous id alone",
        EVENTS,
        event(anonymous_id="anon"),
        sent(userId=None, anonymousId="anon"),
        context=NOBODY,
    ),
    case("both ids together", OURS, event(anonymous_id="anon"), sent(anonymousId="anon")),
    case("only the user's", OURS, event(anonymous_id="anon"), sent(), options={"ids": "one"}),
    case(
        "only the anonymous one, without a user",
        OURS,
        event(anonymous_id="anon"),
        sent(userId=None, anonymousId="anon"),
        context=NOBODY,
        options={"ids": "one"},
    ),
    case(
        "the site's anonymous id before the visitor's",
        OURS,
        event(),
        sent(anonymousId="site-anonymous"),
        context=EVERYBODY,
    ),
    case("the visitor's id", OURS, event(), sent(userId=None, anonymousId="ss-visitor"), context=VISITOR),
    case(
        "no identity, no request",
        EVENTS,
        event(),
        [],
        context=VISITOR,
        options={"share_visitor_id": False},
        refused=DropReason.NO_IDENTITY,
    ),
    case("nobody, no request", EVENTS, event(), [], context=NOBODY, refused=DropReason.NO_IDENTITY),
    case(
        "Signal's ids are no identity",
        OURS,
        event(distinct_id="d"),
        [],
        context=TrackingContext(signal=EVERYBODY.signal),
        refused=DropReason.NO_IDENTITY,
    ),
    case("identify needs the user", USERS, identify(), [], context=VISITOR, refused=DropReason.NO_IDENTITY),
    case("the call's user before the request's", OURS, event(user_id="user_2"), sent(userId="user_2")),
    case(
        "the time of the capture call",
        EVENTS,
        event(time=0.0),
        [
            Request(
                f"{BASE}/v1/events",
                {**HEADERS, "Idempotency-Key": "00000000-0000-7000-8000-000000000000"},
                {**EVENT, "timestamp": "1970-01-01T00:00:00.000Z"},
            )
        ],
    ),
    case("no properties are left out", OURS, event(properties={}), sent()),
    # Property values
    value("a string", "x", "x"),
    value("a whole number", 3, 3),
    value("a fraction", 49.99, Decimal("49.99")),
    value("an exact fraction", Decimal("49.90"), Decimal("49.90")),
    value("a boolean", given=True, wire=True),
    value("a date", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
    value("an array", ["a", 1, True], ["a", 1, True]),
    value("a string of 256", "x" * 256, "x" * 256),
    value("an array of 25", list(range(25)), list(range(25))),
    value("a string of 257 is cut", "x" * 257, "x" * 256, OURS),
    value("a long string with quotes is cut", '"' * 300, '"' * 256, OURS),
    value("a long string in an array is cut", ["x" * 257], ["x" * 256], OURS),
    value("characters beyond the BMP count twice", "\U0001f600" * 129, "\U0001f600" * 128, OURS),
    value("no half of a character", "x" + "\U0001f600" * 128, "x" + "\U0001f600" * 127, OURS),
    value("an array of 26 is cut", list(range(26)), list(range(25)), OURS),
    value("a null in an array goes", [1, None, 2], [1, 2], OURS),
    value("text that looks like JSON is text", '{"a":[null]}', '{"a":[null]}', OURS),
    value("strings as given", "x" * 300, "x" * 300, OURS, max_string=None),
    value("strings cut elsewhere", "x" * 300, "x" * 10, OURS, max_string=10),
    value("arrays as given", list(range(30)), list(range(30)), OURS, max_array=None),
    value("arrays cut elsewhere", [1, 2, 3], [1, 2], OURS, max_array=2),
    value("nulls as given", None, None, OURS, nulls="keep"),
    value("objects as given", {"a": 1}, {"a": 1}, OURS, nested="keep"),
    fitted("a null is dropped", {"a": None, "b": 1}, {"b": 1}),
    fitted("nothing but nulls is nothing", {"a": None}, None),
    fitted(
        "objects are flattened", {"cart": {"total": 3, "owner": {"id": "x"}}}, {"cart_total": 3, "cart_owner_id": "x"}
    ),
    fitted("a given name is not overwritten", {"cart": {"total": 3}, "cart_total": 4}, {"cart_total": 4}),
    fitted(
        "lists of objects are numbered",
        {"items": [{"sku": "a"}, {"sku": "b"}]},
        {"items_0_sku": "a", "items_1_sku": "b"},
    ),
    fitted(
        "numbers stay exact when something else is cut",
        {"a": None, "total": Decimal("0.10")},
        {"total": Decimal("0.10")},
    ),
    fitted(
        "objects as given are fitted inside",
        {"a": {"b": None, "c": "x" * 300}},
        {"a": {"c": "x" * 256}},
        nested="keep",
    ),
    case(
        "traits are fitted as well",
        OURS,
        identify({"company": {"name": "Acme"}, "phone": None}),
        [person({"company_name": "Acme"})],
    ),
]
