"""Analyse.net's batch of events."""

from decimal import Decimal
from typing import Any

from sessionsight.capture.records import DropReason
from sessionsight.request.context import Page, TrackingContext
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

SERVER = (
    "https://github.com/track/sdk (src/server.ts, src/server-types.ts); https://analyse.net/docs/server-side-tracking"
)
IDENTIFYING = "https://analyse.net/docs/identifying-users"
TYPES = "https://github.com/track/sdk (src/types.ts, commit 0fd55f9)"

URL = "https://pulse.analyse.net/v1/batch"
HEADERS = {"Content-Type": "application/json"}
SINGLE = {**HEADERS, "Idempotency-Key": RECORD_ID}
EVENT = {
    "event_name": "Report Exported",
    "anonymous_id": "user_1",
    "person_id": "user_1",
    "timestamp": TIMESTAMP,
    "referrer_domain": "",
    "properties": {},
}


def wire(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**EVENT, **changes}.items() if value is not None}


def sent(*events: dict[str, Any], url: str = URL, headers: Any = SINGLE, key: str = "pk_live_1") -> list[Request]:
    return [Request(url, headers, {"publicKey": key, "events": list(events)})]


def case(id_: str, source: str, record: Any, requests: list[Request], **rest: Any) -> Fact:
    return Fact(f"analyse: {id_}", source, "analyse", [record], requests, **{"context": USER, **rest})


def page(id_: str, facts: Page, **expected: Any) -> Fact:
    context = TrackingContext(user_id="user_1", page=facts)
    return case(f"page, {id_}", SERVER, event(), sent(wire(**expected)), context=context)


FACTS = [
    # Request
    case("one event", SERVER, event(), sent(wire())),
    Fact(
        "analyse: a batch, events and identifications in their order",
        SERVER,
        "analyse",
        [event("a"), identify({"plan": "pro"}), entry(event("b"), VISITOR)],
        sent(
            wire(event_name="a"),
            wire(event_name="$identify", properties={"plan": "pro"}),
            wire(event_name="b", anonymous_id="ss-visitor", person_id=None),
            headers=HEADERS,
        ),
        context=USER,
    ),
    case(
        "one trailing slash of the host is cut",
        SERVER,
        event(),
        sent(wire(), url="https://eu.example.com/v1/batch"),
        options={"host": "https://eu.example.com/"},
    ),
    case("the key stands in the body", SERVER, event(), sent(wire(), key="other"), options={"public_key": "other"}),
    # Event object
    case("an empty anonymous id throws there", SERVER, event(anonymous_id=""), [], refused=DropReason.NO_IDENTITY),
    case("the anonymous id before the person's", SERVER, event(anonymous_id="anon"), sent(wire(anonymous_id="anon"))),
    case("the person's id stands in", SERVER, event(), sent(wire())),
    case(
        "no person: left out",
        SERVER,
        event(anonymous_id="anon"),
        sent(wire(anonymous_id="anon", person_id=None)),
        context=NOBODY,
    ),
    case("neither: no request", SERVER, event(), [], context=NOBODY, refused=DropReason.NO_IDENTITY),
    case("the time of the capture call, in milliseconds and Z", SERVER, event(), sent(wire(timestamp=TIMESTAMP))),
    case("empty properties are there", SERVER, event(), sent(wire(properties={}))),
    case(
        "properties as given: null, empty, nested, long, exact",
        SERVER,
        event(properties={"a": None, "b": "", "c": {"d": [1]}, "e": "x" * 300, "f": Decimal("49.90")}),
        sent(wire(properties={"a": None, "b": "", "c": {"d": [1]}, "e": "x" * 300, "f": Decimal("49.90")})),
    ),
    case(
        "all page facts; no session, address, user agent or screen",
        SERVER,
        event(),
        sent(
            wire(
                anonymous_id="site-anonymous",
                url="https://shop.example.com/plans?utm_source=news",
                path="/plans",
                hostname="shop.example.com",
                referrer="https://www.example.com/blog",
                referrer_domain="www.example.com",
                utm_source="news",
                utm_medium="email",
                utm_campaign="spring",
                utm_term="shoes",
                utm_content="top",
            )
        ),
        context=EVERYBODY,
    ),
    page("path alone", Page(path="/a"), path="/a"),
    page("hostname alone", Page(hostname="shop.example.com"), hostname="shop.example.com"),
    page("no facts: the referrer's domain is empty", Page()),
    *(
        page(f"referrer {referrer}", Page(referrer=referrer), referrer=referrer, referrer_domain=domain)
        for referrer, domain in (
            ("https://www.Example.com:8080/a", "www.example.com"),
            ("https://b\u00fccher.example/", "xn--bcher-kva.example"),
            ("android-app://com.foo/", "com.foo"),
            ("/relative", ""),
            ("example.com/no-scheme", ""),
            ("mailto:a@example.com", ""),
        )
    ),
    page(
        "a given domain overrides the referrer's",
        Page(referrer="https://a.example.com/", referrer_domain="b.example.com"),
        referrer="https://a.example.com/",
        referrer_domain="b.example.com",
    ),
    # Identify
    case(
        "identify has no page",
        SERVER,
        identify({"name": "Ada"}),
        sent(wire(event_name="$identify", anonymous_id="site-anonymous", properties={"name": "Ada"})),
        context=EVERYBODY,
    ),
    case(
        "identify: the person's id stands in",
        SERVER,
        identify(),
        sent(wire(event_name="$identify")),
    ),
    case("identify needs the person", SERVER, identify(), [], context=VISITOR, refused=DropReason.NO_IDENTITY),
    case(
        "traits as the documentation writes them",
        IDENTIFYING,
        identify({"name": "Ada", "email": "a@example.com", "avatarUrl": "https://example.com/a"}),
        sent(
            wire(
                event_name="$identify",
                properties={"name": "Ada", "email": "a@example.com", "avatarUrl": "https://example.com/a"},
            )
        ),
    ),
    case(
        "traits as the SDK's types write them",
        TYPES,
        identify({"name": "Ada", "email": "a@example.com", "avatarUrl": "https://example.com/a", "plan": "pro"}),
        sent(
            wire(
                event_name="$identify",
                properties={
                    "$name": "Ada",
                    "$email": "a@example.com",
                    "$avatar": "https://example.com/a",
                    "plan": "pro",
                },
            )
        ),
        options={"profile_traits": "dollar"},
    ),
    case(
        "a trait in the SDK's spelling is not overwritten",
        OURS,
        identify({"name": "Ada", "$name": "Lovelace"}),
        sent(wire(event_name="$identify", properties={"$name": "Lovelace"})),
        options={"profile_traits": "dollar"},
    ),
    # Who it is about
    case(
        "the visitor's id",
        OURS,
        event(),
        sent(wire(anonymous_id="ss-visitor", person_id=None)),
        context=VISITOR,
    ),
    case(
        "the visitor's id, not shared",
        OURS,
        event(),
        [],
        context=VISITOR,
        options={"share_visitor_id": False},
        refused=DropReason.NO_IDENTITY,
    ),
    case(
        "Signal's ids are no identity",
        OURS,
        event(distinct_id="d"),
        [],
        context=TrackingContext(signal=EVERYBODY.signal),
        refused=DropReason.NO_IDENTITY,
    ),
    case(
        "the call's user before the request's",
        OURS,
        event(user_id="user_2"),
        sent(wire(anonymous_id="user_2", person_id="user_2")),
    ),
]
