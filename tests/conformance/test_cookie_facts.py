"""How SessionSight's server SDK reads ids from a request, held against our resolver.

Source: https://github.com/SessionSight/sdks (sdk-shared/src, sdk-shared/test, goals/test).
"""

from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from sessionsight.request.context import SessionSightIds, SignalIds
from sessionsight.request.raw import RequestData, from_any
from sessionsight.request.resolve import parse_cookies, resolve

SID, VID = "session-1", "visitor-1"


class CookieFact(NamedTuple):
    id: str
    header: str
    value: str | None
    """Value of the cookie named `c`."""


COOKIES = [
    # Separator
    CookieFact("a semicolon and a space separate", "a=1; c=2", "2"),
    CookieFact("a semicolon alone separates", "a=1;c=2", "2"),
    CookieFact("any white space after the semicolon goes", "a=1;\t \u00a0c=2", "2"),
    CookieFact("a comma separates nothing", "c=1, b=2", "1, b=2"),
    # Pair
    CookieFact("the first equals sign splits", "c=a=b==", "a=b=="),
    CookieFact("a piece without an equals sign is skipped", "c; a=1", None),
    CookieFact("a piece that starts with one is skipped", "=c; =1; c=2", "2"),
    CookieFact("white space around name and value goes", "c = x ; a=1", "x"),
    CookieFact("white space inside the value stays", "c=x y", "x y"),
    # Names
    CookieFact("names are exact", "cc=1; xc=2", None),
    CookieFact("names are case-sensitive", "C=1", None),
    CookieFact("names are not decoded", "%63=1", None),
    # Duplicates
    CookieFact("the last duplicate wins", "c=1; c=2", "2"),
    CookieFact("the last duplicate wins even when it is empty", "c=1; c=", ""),
    # Quotes
    CookieFact("quotes are kept", 'c="x"', '"x"'),
    CookieFact("quotes hide no separator", 'c="x; y"', '"x'),
    # Percent-decoding
    CookieFact("escapes are decoded", "c=a%2Db", "a-b"),
    CookieFact("small letters in escapes", "c=a%2db", "a-b"),
    CookieFact("escapes are UTF-8", "c=%C3%A9", "é"),
    CookieFact("one malformed escape keeps the whole value raw", "c=a%2Db%zz", "a%2Db%zz"),
    CookieFact("a cut escape keeps the whole value raw", "c=a%2Db%2", "a%2Db%2"),
    CookieFact("bytes that are no UTF-8 keep the whole value raw", "c=a%2Db%FF", "a%2Db%FF"),
    CookieFact("an encoded surrogate is not UTF-8", "c=%ED%A0%80", "%ED%A0%80"),
    CookieFact("a plus is a plus", "c=a+b", "a+b"),
    CookieFact("decoded once", "c=%252D", "%2D"),
    CookieFact("decoded after the pairs are split", "c=a%3B%20d", "a; d"),
    # Missing
    CookieFact("absent", "", None),
    CookieFact("empty", "c=", ""),
    CookieFact("empty after trimming", "c=   ", ""),
    CookieFact("an encoded space is present", "c=%20", " "),
]


@pytest.mark.parametrize("fact", COOKIES, ids=lambda fact: fact.id)
def test_a_cookie_header_reads_as_in_the_vendors_sdk(fact: CookieFact) -> None:
    assert parse_cookies(fact.header).get("c") == fact.value


class IdFact(NamedTuple):
    id: str
    header: str
    ids: SessionSightIds


IDS = [
    IdFact("both", "ss_vid=visitor-1; ss_sid=session-1", SessionSightIds(session_id=SID, visitor_id=VID)),
    IdFact("one alone is fine", "ss_sid=session-1", SessionSightIds(session_id=SID)),
    IdFact("the other alone is fine", "ss_vid=visitor-1", SessionSightIds(visitor_id=VID)),
    IdFact("percent-encoded", "ss_sid=session%2D1", SessionSightIds(session_id=SID)),
    IdFact("an emptied duplicate is missing", "ss_sid=session-1; ss_sid=", SessionSightIds()),
    IdFact("blank is missing", "ss_sid=%20", SessionSightIds()),
    IdFact("quoted is refused by the API, so missing", 'ss_sid="session-1"', SessionSightIds()),
    IdFact("128 characters", f"ss_sid={'a' * 128}", SessionSightIds(session_id="a" * 128)),
    IdFact("129 are refused by the API, so missing", f"ss_sid={'a' * 129}", SessionSightIds()),
    IdFact("an underscore is refused by the API, so missing", "ss_sid=a_b", SessionSightIds()),
    IdFact("other scripts' letters are refused, so missing", "ss_sid=%C3%A9", SessionSightIds()),
    IdFact("other names are nothing", "ss_vtoken=x; SS_SID=session-1", SessionSightIds()),
]


@pytest.mark.parametrize("fact", IDS, ids=lambda fact: fact.id)
def test_ids_come_from_the_cookies(fact: IdFact) -> None:
    assert resolve(RequestData(headers={"cookie": fact.header})).context.sessionsight == fact.ids


class Cookies:
    """An object with `get`, as in SvelteKit and Koa."""

    def __init__(self, **values: Any) -> None:
        self.values = values

    def get(self, name: str) -> Any:
        if isinstance(value := self.values.get(name), Exception):
            raise value
        return value


HEADER = "ss_sid=session-1; ss_vid=visitor-1"
BOTH = SessionSightIds(session_id=SID, visitor_id=VID)
NOTHING: list[object] = [None, 7, True, "", {}]
SHAPES: list[tuple[str, object, SessionSightIds]] = [
    ("a raw cookie header", HEADER, BOTH),
    ("an object with get", SimpleNamespace(cookies=Cookies(ss_sid=SID, ss_vid=VID)), BOTH),
    (
        "an object with get: not decoded again, so refused",
        SimpleNamespace(cookies=Cookies(ss_sid="session%2D1", ss_vid=VID)),
        SessionSightIds(visitor_id=VID),
    ),
    (
        "an object with get: one id is final",
        SimpleNamespace(cookies=Cookies(ss_sid=SID), headers={"cookie": HEADER}),
        SessionSightIds(session_id=SID),
    ),
    (
        "an object with get: none, then the header",
        SimpleNamespace(cookies=Cookies(), headers={"cookie": HEADER}),
        BOTH,
    ),
    (
        "an object whose get raises: the header",
        SimpleNamespace(cookies=Cookies(ss_sid=ValueError(), ss_vid=ValueError()), headers={"cookie": HEADER}),
        BOTH,
    ),
    (
        "an object with get: a value that is not a string counts as missing",
        SimpleNamespace(cookies=Cookies(ss_sid=7, ss_vid=VID), headers={"cookie": HEADER}),
        SessionSightIds(visitor_id=VID),
    ),
    ("a map of cookies", {"cookies": {"ss_sid": SID, "ss_vid": VID}}, BOTH),
    (
        "a map of cookies: one id is final",
        {"cookies": {"ss_sid": SID}, "headers": {"cookie": HEADER}},
        SessionSightIds(session_id=SID),
    ),
    (
        "a map of empty cookies: the header",
        {"cookies": {"ss_sid": "", "ss_vid": ""}, "headers": {"cookie": HEADER}},
        BOTH,
    ),
    ("headers with get", SimpleNamespace(headers=Cookies(cookie=HEADER)), BOTH),
    ("a map of headers", {"headers": {"cookie": HEADER}}, BOTH),
    ("a map of headers, Cookie", {"headers": {"Cookie": HEADER}}, BOTH),
    (
        "headers are not merged: the first non-empty one",
        {"headers": {"cookie": "ss_sid=session-1", "Cookie": "ss_vid=visitor-1"}},
        SessionSightIds(session_id=SID),
    ),
    ("an empty header: the next", {"headers": {"cookie": "", "Cookie": HEADER}}, BOTH),
    *((f"{shape!r} gives nothing", shape, SessionSightIds()) for shape in NOTHING),
]


@pytest.mark.parametrize(("shape", "ids"), [case[1:] for case in SHAPES], ids=[case[0] for case in SHAPES])
def test_ids_come_from_any_shape_of_request(shape: object, ids: SessionSightIds) -> None:
    assert resolve(from_any(shape)).context.sessionsight == ids


SIGNAL = "https://docs.trysignal.ai/essentials/user-identification"
SIGNAL_HEADERS: list[tuple[str, dict[str, str], SignalIds]] = [
    (
        "any case",
        {"X-Signal-Session-Id": "s", "x-signal-window-id": "w", "X-SIGNAL-DISTINCT-ID": "d"},
        SignalIds(session_id="s", window_id="w", distinct_id="d"),
    ),
    ("each on its own", {"X-Signal-Window-Id": "w"}, SignalIds(window_id="w")),
    ("empty is missing", {"X-Signal-Session-Id": "", "X-Signal-Distinct-Id": "  "}, SignalIds()),
    ("taken as they are", {"X-Signal-Distinct-Id": "a%20b+c=1"}, SignalIds(distinct_id="a%20b+c=1")),
]


@pytest.mark.parametrize(
    ("headers", "ids"), [case[1:] for case in SIGNAL_HEADERS], ids=[case[0] for case in SIGNAL_HEADERS]
)
def test_signals_ids_come_from_its_headers(headers: dict[str, str], ids: SignalIds) -> None:
    assert resolve(from_any({"headers": headers})).context.signal == ids
