"""Signal's calls. The vendor documents what they are, and leaves the wire to our assumption."""

from typing import Any

from sessionsight.capture.records import DropReason
from sessionsight.request.context import SignalIds, TrackingContext
from tests.conformance.facts.fact import OURS, Fact, Request
from tests.core.destinations.factories import (
    EVERYBODY,
    NOBODY,
    RECORD_ID,
    SENT_AT,
    TIMESTAMP,
    USER,
    VISITOR,
    alias,
    entry,
    event,
    group,
    identify,
    person,
)

DOCS = "https://docs.trysignal.ai/integrations/node"
CONFIGURATION, CAPTURE, IDENTIFY = f"{DOCS}/configuration", f"{DOCS}/capture", f"{DOCS}/identify"
PERSON, GROUP, ALIAS = f"{DOCS}/set-person-properties", f"{DOCS}/group", f"{DOCS}/alias"
IDS = "https://docs.trysignal.ai/essentials/user-identification"
NEXTJS = "https://docs.trysignal.ai/integrations/nextjs/server-tracking"

URL = "https://api.trysignal.ai/v1/capture"
HEADERS = {
    "Content-Type": "application/json",
    "Authorization": "Bearer signal_key_1",
}
SINGLE = {**HEADERS, "Idempotency-Key": RECORD_ID}


def wire(name: str, distinct_id: str | None = "user_1", properties: Any = None, **more: Any) -> dict[str, Any]:
    known = {} if distinct_id is None else {"distinctId": distinct_id}
    return {"event": name, **known, "timestamp": TIMESTAMP, "properties": properties or {}, **more}


def sent(*events: dict[str, Any], url: str = URL, headers: Any = SINGLE, **more: Any) -> list[Request]:
    return [Request(url, headers, {"projectId": "shop", "sentAt": SENT_AT, "events": list(events), **more})]


def case(id_: str, source: str, record: Any, requests: list[Request], **rest: Any) -> Fact:
    return Fact(f"signal: {id_}", source, "signal", [record], requests, **{"context": USER, **rest})


REPORT = wire("Report Exported")
HEADER_ONLY = TrackingContext(signal=SignalIds(distinct_id="signal-distinct"))

FACTS = [
    # Calls
    case("capture", CAPTURE, event(properties={"rows": 3}), sent(wire("Report Exported", properties={"rows": 3}))),
    case(
        "capture with groups",
        CAPTURE,
        event(groups={"company": "acme-1"}),
        sent(wire("Report Exported", groups={"company": "acme-1"})),
    ),
    case(
        "capture: a page view",
        NEXTJS,
        event("$pageview", {"path": "/"}),
        sent(wire("$pageview", "user_1", {"path": "/"})),
    ),
    case(
        "capture: money is free-form",
        CAPTURE,
        event(properties={"amount": 4900}),
        sent(wire("Report Exported", properties={"amount": 4900})),
    ),
    case("identify", IDENTIFY, identify({"plan": "pro"}), sent(wire("$identify", properties={"plan": "pro"}))),
    case("identify without traits", IDENTIFY, identify(), sent(wire("$identify"))),
    case("set person properties", PERSON, person({"a": 1}), sent(wire("$set", properties={"a": 1}))),
    case("set them once", PERSON, person({"a": 1}, once=True), sent(wire("$set_once", properties={"a": 1}))),
    case(
        "group without properties",
        GROUP,
        group("company", "acme-1"),
        sent(wire("$group_assign", properties={"groupType": "company", "groupKey": "acme-1"})),
    ),
    case(
        "group with properties: assigned, and described without a person",
        GROUP,
        group("company", "acme-1", {"seats": 5}),
        sent(
            wire("$group_assign", properties={"groupType": "company", "groupKey": "acme-1"}),
            wire(
                "$groupidentify",
                None,
                {"groupType": "company", "groupKey": "acme-1", "groupProperties": {"seats": 5}},
            ),
        ),
    ),
    case(
        "group identify: properties alone need nobody",
        GROUP,
        group("company", "acme-1", {"seats": 5}),
        sent(
            wire(
                "$groupidentify",
                None,
                {"groupType": "company", "groupKey": "acme-1", "groupProperties": {"seats": 5}},
            )
        ),
        context=NOBODY,
    ),
    case("alias", ALIAS, alias("anon-1"), sent(wire("$create_alias", properties={"alias": "anon-1"}))),
    # Ids of the request
    case(
        "session and window from their headers; nothing of another vendor or the page",
        IDS,
        event(),
        sent(wire("Report Exported", sessionId="signal-session", windowId="signal-window")),
        context=EVERYBODY,
    ),
    *(
        case(
            f"{name} contains the session and the window",
            source,
            record,
            sent(wire(name, distinct_id, properties, sessionId="signal-session", windowId="signal-window")),
            context=EVERYBODY,
        )
        for name, source, record, distinct_id, properties in (
            ("$identify", IDENTIFY, identify(), "user_1", {}),
            ("$set", PERSON, person({"a": 1}), "user_1", {"a": 1}),
            ("$set_once", PERSON, person({"a": 1}, once=True), "user_1", {"a": 1}),
            ("$create_alias", ALIAS, alias("a"), "user_1", {"alias": "a"}),
            ("$group_assign", GROUP, group("t", "k"), "user_1", {"groupType": "t", "groupKey": "k"}),
        )
    ),
    case(
        "the header's id when there is no user",
        IDS,
        event(),
        sent(wire("Report Exported", "signal-distinct")),
        context=HEADER_ONLY,
    ),
    case(
        "the user before the header",
        OURS,
        event(),
        sent(wire("Report Exported", "user_1")),
        context=TrackingContext(user_id="user_1", signal=HEADER_ONLY.signal),
    ),
    case(
        "the vendor's order: the header before the user",
        IDS,
        event(),
        sent(wire("Report Exported", "signal-distinct")),
        context=TrackingContext(user_id="user_1", signal=HEADER_ONLY.signal),
        options={"distinct_id": "header"},
    ),
    case("the vendor's order: else the user", IDS, event(), sent(REPORT), options={"distinct_id": "header"}),
    *(
        case(
            f"an id given with the call goes first ({order})",
            CAPTURE,
            event(distinct_id="given", user_id="other"),
            sent(wire("Report Exported", "given")),
            context=TrackingContext(user_id="user_1", signal=HEADER_ONLY.signal),
            options={"distinct_id": order},
        )
        for order in ("user", "header")
    ),
    case("the call's user before the request's", OURS, event(user_id="other"), sent(wire("Report Exported", "other"))),
    case("no distinct id, no request", CAPTURE, event(), [], context=VISITOR, refused=DropReason.NO_IDENTITY),
    case(
        "an anonymous id of the site is none of Signal's",
        OURS,
        event(anonymous_id="a"),
        [],
        context=TrackingContext(anonymous_id="site-anonymous"),
        refused=DropReason.NO_IDENTITY,
    ),
    case(
        "a group without person and properties",
        GROUP,
        group("t", "k"),
        [],
        context=NOBODY,
        refused=DropReason.NO_IDENTITY,
    ),
    # The request, all of it assumed
    Fact(
        "signal: a batch has no idempotency key",
        OURS,
        "signal",
        [event("a"), entry(event("b"), HEADER_ONLY), identify()],
        sent(wire("a"), wire("b", "signal-distinct"), wire("$identify"), headers=HEADERS),
        context=USER,
    ),
    case(
        "one record of two events is still one record",
        OURS,
        group("t", "k", {"a": 1}),
        sent(
            wire("$group_assign", properties={"groupType": "t", "groupKey": "k"}),
            wire("$groupidentify", None, {"groupType": "t", "groupKey": "k", "groupProperties": {"a": 1}}),
        ),
    ),
    case(
        "project, endpoint and path are options",
        CONFIGURATION,
        event(),
        [
            Request(
                "https://signal.example.com/in",
                SINGLE,
                {"projectId": "other", "sentAt": SENT_AT, "events": [REPORT]},
            )
        ],
        options={"project_id": "other", "endpoint": "https://signal.example.com/", "ingest_path": "/in"},
    ),
    case(
        "the key in a header of its own",
        OURS,
        event(),
        sent(
            REPORT,
            headers={"Content-Type": "application/json", "x-api-key": "signal_key_1", "Idempotency-Key": RECORD_ID},
        ),
        options={"api_key_in": "x-api-key"},
    ),
    case(
        "the key in the body",
        OURS,
        event(),
        sent(
            REPORT,
            headers={"Content-Type": "application/json", "Idempotency-Key": RECORD_ID},
            apiKey="signal_key_1",
        ),
        options={"api_key_in": "body"},
    ),
]
