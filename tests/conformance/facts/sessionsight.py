"""SessionSight's goal and feedback calls."""

from decimal import Decimal
from typing import Any

from sessionsight.capture.records import DropReason
from sessionsight.request.context import SessionSightIds, TrackingContext
from tests.conformance.facts.fact import OURS, Fact, Request
from tests.core.destinations.factories import EVERYBODY, NOBODY, USER, VISITOR, entry, feedback, goal

SDK = "https://github.com/SessionSight/sdks (goals/src, goals/test)"
SHARED = "https://github.com/SessionSight/sdks (sdk-shared/src, sdk-shared/test)"
API = "https://sessionsight.com/docs/build/api-reference/goals/increment"
API_DECREMENT = "https://sessionsight.com/docs/build/api-reference/goals/decrement"
FEEDBACK_SDK = "https://github.com/SessionSight/sdks (feedback/src, feedback/test)"
FEEDBACK_API = "https://sessionsight.com/docs/build/api-reference/feedback/submit"
PAIRING = "https://sessionsight.com/docs/build/sdks/insights-sdk/backend-pairing"

HEADERS = {"Content-Type": "application/json", "x-api-key": "sessionsight_sec_1"}
URL = "https://api.sessionsight.com/v1/goals/increment"
BODY = {"goalId": "user-signups", "propertyId": "shop", "amount": 1, "sessionId": "ss-session"}


def sent(url: str = URL, **changes: Any) -> list[Request]:
    return [Request(url, HEADERS, {**BODY, **changes})]


def case(id_: str, source: str, record: Any, requests: list[Request], **rest: Any) -> Fact:
    return Fact(f"sessionsight: {id_}", source, "sessionsight", [record], requests, **{"context": VISITOR, **rest})


def answered(**changes: Any) -> list[Request]:
    body = {"feedbackTypeId": "nps", "propertyId": "shop", "sessionId": "ss-session", **changes}
    return [Request("https://api.sessionsight.com/v1/feedback/submit", HEADERS, body)]


def screened(id_: str, value: Any, *, kept: str | None = None) -> Fact:
    """A metadata value that goes out as `kept`, or not at all."""
    metadata = {"plan": "pro"} if kept is None else {"plan": "pro", "value": kept}
    record = goal(metadata={"plan": "pro", "value": value})
    return case(f"screening, {id_}", SHARED, record, sent(metadata=metadata))


FACTS = [
    # Endpoints and headers
    case("an increment has its own path", API, goal(), sent()),
    case(
        "a decrement has its own path, and a positive amount",
        API_DECREMENT,
        goal(direction="decrement", amount=2),
        sent("https://api.sessionsight.com/v1/goals/decrement", amount=2),
    ),
    case("no idempotency key, not even with a key of the caller's", SDK, goal(key="order:1"), sent()),
    case("no visitor, user, anonymous id, page or time", SDK, goal(), sent(), context=EVERYBODY),
    case("no ids that came with the call", SDK, goal(user_id="u", distinct_id="d", anonymous_id="a"), sent()),
    Fact(
        "sessionsight: never batched",
        SDK,
        "sessionsight",
        [goal("a"), goal("b"), entry(goal("c"), TrackingContext(sessionsight=SessionSightIds(session_id="other")))],
        [*sent(goalId="a"), *sent(goalId="b"), *sent(goalId="c", sessionId="other")],
        context=VISITOR,
    ),
    # Client configuration
    case(
        "one trailing slash of the address is cut",
        SDK,
        goal(),
        sent("https://eu.example.com/v1/goals/increment"),
        options={"api_url": "https://eu.example.com/"},
    ),
    case(
        "only one trailing slash is cut",
        SDK,
        goal(),
        sent("https://eu.example.com//v1/goals/increment"),
        options={"api_url": "https://eu.example.com//"},
    ),
    case("an empty address is the default", SDK, goal(), sent(), options={"api_url": ""}),
    case("a lone slash is the default address", SDK, goal(), sent(), options={"api_url": "/"}),
    case(
        "plain http to localhost is allowed",
        SDK,
        goal(),
        sent("http://localhost:4000/v1/goals/increment"),
        options={"api_url": "http://localhost:4000"},
    ),
    # Goal body
    case("the goal id goes out as given", SDK, goal(" odd id "), sent(goalId=" odd id ")),
    case("the amount of 1 is written", SDK, goal(amount=1), sent(amount=1)),
    case("a whole amount", SDK, goal("monthly-revenue", amount=49), sent(goalId="monthly-revenue", amount=49)),
    case("a fraction", SDK, goal(amount=0.5), sent(amount=Decimal("0.5"))),
    case("a Decimal is exact", OURS, goal(amount=Decimal("49.90")), sent(amount=Decimal("49.90"))),
    case(
        "a Decimal longer than a float",
        OURS,
        goal(amount=Decimal("12345678901234567.89")),
        sent(amount=Decimal("12345678901234567.89")),
    ),
    case("the call's session goes first", SDK, goal(session_id="given"), sent(sessionId="given")),
    case("an empty session falls back to the visitor's", SDK, goal(session_id=""), sent()),
    case("the call's session goes out as given", SDK, goal(session_id=" a b "), sent(sessionId=" a b ")),
    case("the call's session is enough", SDK, goal(session_id="given"), sent(sessionId="given"), context=NOBODY),
    case("a blank session is refused", SDK, goal(session_id="  "), [], refused=DropReason.NO_SESSION),
    case("U+FEFF is blank", SDK, goal(session_id="\ufeff"), [], refused=DropReason.NO_SESSION),
    case("U+0085 is not blank", SDK, goal(session_id="\x85"), sent(sessionId="\x85")),
    case("no session, no request", SDK, goal(), [], context=USER, refused=DropReason.NO_SESSION),
    case(
        "another vendor's session is none",
        PAIRING,
        goal(),
        [],
        context=TrackingContext(signal=EVERYBODY.signal, user_id="user_1", anonymous_id="a"),
        refused=DropReason.NO_SESSION,
    ),
    case("metadata", SDK, goal(metadata={"plan": "pro"}), sent(metadata={"plan": "pro"})),
    case("empty metadata is left out", SDK, goal(metadata={}), sent()),
    case("metadata of which nothing is left is left out", SDK, goal(metadata={"ip": "10.0.0.1"}), sent()),
    case(
        "six entries: the first five, as they were given",
        OURS,
        goal(metadata=dict.fromkeys("fbcdea", "x")),
        sent(metadata=dict.fromkeys("fbcde", "x")),
    ),
    case(
        "the five are counted after screening",
        OURS,
        goal(metadata={"a": "10.0.0.1", **dict.fromkeys("bcdef", "x")}),
        sent(metadata=dict.fromkeys("bcdef", "x")),
    ),
    case("a value is cut", OURS, goal(metadata={"a": "x" * 257}), sent(metadata={"a": "x" * 256})),
    case(
        "a value is cut as JavaScript counts",
        OURS,
        goal(metadata={"a": "x" + "\U0001f600" * 200}),
        sent(metadata={"a": "x" + "\U0001f600" * 127}),
    ),
    case("a value of 256 is whole", API, goal(metadata={"a": "x" * 256}), sent(metadata={"a": "x" * 256})),
    case("a key of 256 stays", API, goal(metadata={"k" * 256: "x"}), sent(metadata={"k" * 256: "x"})),
    case("an entry with too long a key is left out", OURS, goal(metadata={"k" * 257: "x"}), sent()),
    case(
        "the SDK itself enforces no limit",
        SDK,
        goal(metadata={**dict.fromkeys("abcdef", "x" * 300), "k" * 300: "x"}),
        sent(metadata={**dict.fromkeys("abcdef", "x" * 300), "k" * 300: "x"}),
        options={"metadata_over_limit": "keep"},
    ),
    # Metadata: how values become strings
    screened("True is a word", value=True, kept="true"),
    screened("False is a word", value=False, kept="false"),
    screened("None is a word", None, kept="null"),
    screened("an object has no content", {"a": 1}, kept="[object Object]"),
    screened("a list is joined by commas", ["a", 1, None, ["b", "c"], {}], kept="a,1,,b,c,[object Object]"),
    screened("a number", 49, kept="49"),
    screened("a number has no trailing zeros", Decimal("49.90"), kept="49.9"),
    screened("a large number", 1e21, kept="1e+21"),
    # Metadata: what is dropped
    screened("PEM private key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"),
    screened("PEM RSA private key", "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----"),
    screened(
        "PEM private key longer than what is sent", f"-----BEGIN PRIVATE KEY-----{'A' * 3000}-----END PRIVATE KEY-----"
    ),
    screened("user and password in a URL", "postgres://user:pass@db.example.com/shop"),
    screened("Bearer", "Authorization: Bearer abc123def456"),
    screened("Basic", "Basic dXNlcjpwYXNz"),
    screened("Token", "token abcdefgh"),
    screened("Digest", "Digest abcdefgh"),
    screened("JWT", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV"),
    screened("OpenAI key", "sk-proj-1234567890abcdefghijk"),
    screened("Anthropic key", "sk-ant-1234567890abcdefghijk"),
    *(
        screened(f"Stripe {prefix}_{mode}", f"{prefix}_{mode}_abcdefghijklmnop")
        for prefix in ("sk", "pk", "rk", "whsec")
        for mode in ("live", "test")
    ),
    *(screened(f"GitHub {prefix}", f"{prefix}_abcdefghijklmnopqrst") for prefix in ("ghp", "gho", "ghu", "ghs", "ghr")),
    screened("Slack", "xoxb-1234567890-abcdef"),
    screened("AWS access key", "AKIAABCDEFGHIJKLMNOP"),
    screened("AWS presigned parameter", "X-Amz-Signature=abc123"),
    screened("Google key", "AIzaSyABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg"),
    screened("IBAN", "GB82WEST12345698765432"),
    screened("IBAN with spaces", "GB82 WEST 1234 5698 7654 32"),
    screened("IBAN with hyphens", "DE89-3704-0044-0532-0130-00"),
    screened("IBAN, the shortest", "NO9386011117947"),
    screened("card", "4242 4242 4242 4242"),
    screened("card without separators", "4242424242424242"),
    screened("card, the shortest", "4222222222222"),
    screened("card, the longest", "6304000000000000000"),
    screened("card with hyphens, in a sentence", "card 4111-1111-1111-1111 end"),
    screened("SSN", "123-45-6789"),
    screened("SSN with spaces", "SSN 555 44 3333"),
    screened("ITIN", "912-78-3456"),
    screened("UK NI", "AB123456C"),
    screened("UK NI with spaces", "NI: AB 12 34 56 C"),
    screened("Canadian SIN", "046 454 286"),
    screened("US phone", "555-123-4567"),
    screened("US phone in parentheses", "+1 (555) 123-4567"),
    screened("US phone of eleven digits", "call 15551234567"),
    screened("international phone", "+44 20 7946 0958"),
    screened("IPv4", "host 192.168.1.1 down"),
    screened("IPv6", "2001:0db8:85a3:0000:0000:8a2e:0370:7334"),
    screened("IPv6, shortened", "addr fe80::1 end"),
    screened("IPv6, loopback", "::1"),
    screened("IPv6, three colons", "1:2:3:4"),
    screened("street address", "1600 Pennsylvania Avenue"),
    screened("URL with a query", "see https://example.com/reset?t=1 end"),
    screened("URL with a fragment", "http://example.com/page#section"),
    # Metadata: surprising drops
    screened("a bare order number of ten digits", "1234567890"),
    screened("Unix seconds, a number", 1767225600),
    screened("nine digits in the shape of an SSN", "123456789"),
    screened("a version of four parts", "10.0.0.1"),
    screened("a link inside a list", ["a", "https://example.com/?q=1"]),
    # Metadata: what stays
    *(
        screened(f"stays: {value}", value, kept=value)
        for value in (
            "alice@example.com",
            "550e8400-e29b-41d4-a716-446655440000",
            "ord_12345",
            "12:34:56",
            "2026-01-01T12:34:56.789Z",
            "2026-01-01T12:34:56+01:00",
            "1767225600001",  # milliseconds that fail Luhn
            "https://example.com/path",
            "000-12-3456",
            "666-12-3456",
            "900-12-3456",
            "950-50-1234",
            "912-89-1234",
            "AB123456",
            "23456789012",
            "+99 1",
            "256.256.256.256",
            "GB12",
            "666123456",
            "she lives at 1600 Pennsylvania",
            "v1.2.3.4",
            "10.0.0.01",
            "100000000",
            "PO123456B",
            "10 points all the way",
            "+442079460958",
            "xoxz-abcdefghij",
            "-----BEGIN RSA PRIVATE KEY-----\nAAAA",
            "",
        )
    ),
    case(
        "screening, keys are not looked at",
        SHARED,
        goal(metadata={"555-123-4567": "x"}),
        sent(metadata={"555-123-4567": "x"}),
    ),
    # Feedback
    case(
        "feedback has its own path, and every part of the answer",
        FEEDBACK_API,
        feedback(answer={"option": "9", "message": "Clear", "metadata": {"plan": "pro"}}),
        answered(option="9", message="Clear", metadata={"plan": "pro"}),
    ),
    case(
        "feedback without what is empty",
        FEEDBACK_SDK,
        feedback(answer={"option": "", "message": "", "metadata": {}}),
        answered(),
    ),
    case(
        "feedback in the session of the call", FEEDBACK_SDK, feedback(session_id="other"), answered(sessionId="other")
    ),
    case("feedback without visitor, user and time", FEEDBACK_SDK, feedback(key="k"), answered(), context=EVERYBODY),
    case("feedback without a session", FEEDBACK_SDK, feedback(), [], context=NOBODY, refused=DropReason.NO_SESSION),
    case(
        "feedback's metadata is not screened, and consists of strings",
        FEEDBACK_SDK,
        feedback(answer={"metadata": {"phone": "555-123-4567", "seats": 5}}),
        answered(metadata={"phone": "555-123-4567", "seats": "5"}),
    ),
    case(
        "feedback whose parts before_send has replaced",
        OURS,
        feedback(answer={"option": 9, "message": None, "metadata": "[redacted]"}),
        answered(),
    ),
    case(
        "feedback's message is cut at the API's limit",
        OURS,
        feedback(answer={"message": "x" * 5001}),
        answered(message="x" * 5000),
    ),
]
