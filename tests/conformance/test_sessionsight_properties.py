"""Generated goals and cookies, held against SessionSight's rules as `sessionsight_rules` writes them down."""

import json
import math
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sessionsight.capture.records import DropReason, check_goal
from sessionsight.destinations import SessionSight
from sessionsight.destinations.pii_filter import filter_metadata, sensitive_kind
from sessionsight.errors import InvalidGoalError
from sessionsight.javascript import is_blank, nonfinite_as_text, to_string, trim
from sessionsight.request.context import SessionSightIds, TrackingContext
from sessionsight.request.raw import RequestData, from_any
from sessionsight.request.resolve import parse_cookies, resolve
from tests.conformance import sessionsight_rules as rules
from tests.core.destinations.factories import NOBODY, NOW, entry, goal
from tests.support.examples import examples

# The same examples in each run, so that a fault is one of the code and none of chance.
repeatable = settings(derandomize=True, max_examples=examples(1.5))
thorough = settings(derandomize=True, max_examples=examples(5))

WHITE = st.sampled_from([" ", "\t", "\n", "\u00a0", "\u202f", "\ufeff", "\u3000", "\x1c", "\x85", "\u200b"])
BLANK = st.lists(WHITE, max_size=3).map("".join)

# --- Cookies --------------------------------------------------------------------------------------

PIECES = st.one_of(
    st.sampled_from(["ss_sid", "ss_vid", "SS_SID", "a", "=", "==", ";", "; ", ",", '"', "%", "%2", "%zz", "+", "\xfc"]),
    st.sampled_from(["%41", "%2D", "%3B", "%20", "%C3%A9", "%FF", "%ED%A0%80", "%25", "session-1", "x_y"]),
    WHITE,
    st.text(max_size=3),
)
HEADERS = st.lists(PIECES, max_size=14).map("".join)
PAIRS = st.lists(
    st.tuples(st.sampled_from(["ss_sid", "ss_vid", " ss_sid", "x"]), st.lists(PIECES, max_size=4).map("".join)),
    max_size=5,
).map(lambda pairs: "; ".join(f"{name}={value}" for name, value in pairs))


@thorough
@given(HEADERS | PAIRS)
@example("ss_sid=a; ss_sid=")
@example("\ufeffss_sid=\u00a0a\u202f")
def test_a_cookie_header_is_read_by_the_rules(header: str) -> None:
    if any(0xD800 <= ord(character) < 0xE000 for character in header):
        return  # no header holds half a character
    assert parse_cookies(header) == rules.cookies(header)


@repeatable
@given(HEADERS | PAIRS, st.sampled_from([0, 1, 70]))
def test_the_session_of_a_header_is_the_one_that_the_api_takes(header: str, padding: int) -> None:
    expected = rules.session_id(header)
    assert resolve(RequestData(headers={"cookie": header})).context.sessionsight.session_id == expected
    padded = "; ".join([f"pad{number}={'x' * 1000}" for number in range(padding)] + [header])
    assert resolve(from_any({"Cookie": padded})).context.sessionsight.session_id == rules.session_id(padded)


# --- Blank checks ---------------------------------------------------------------------------------


@repeatable
@given(st.tuples(BLANK, st.text(max_size=4), BLANK).map("".join))
def test_a_text_is_trimmed_and_blank_by_the_rules(text: str) -> None:
    assert trim(text) == rules.trim(text)
    assert is_blank(text) == (not rules.trim(text))


@repeatable
@given(BLANK | st.text(max_size=3), BLANK | st.text(max_size=3))
def test_a_blank_goal_or_session_is_refused_and_no_other(goal_id: str, session_id: str) -> None:
    vendor = SessionSight(secret_api_key="k", property_id="p")
    record = goal(goal_id or "g", session_id=session_id)
    refused = vendor.drop_reason(record, NOBODY) is DropReason.NO_SESSION
    assert refused == (not rules.trim(session_id))
    try:
        check_goal(goal_id, 1, None)
    except InvalidGoalError:
        assert not rules.trim(goal_id)
    else:
        assert rules.trim(goal_id)


@repeatable
@given(st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | st.text(max_size=3) | st.just([1]))
def test_an_amount_is_a_finite_number_above_zero_and_nothing_else(amount: Any) -> None:
    is_number = isinstance(amount, int | float | Decimal) and not isinstance(amount, bool)
    right = amount is None or (is_number and _is_right(amount))
    try:
        taken = check_goal("g", amount, None)
    except InvalidGoalError:
        assert not right
    else:
        assert right
        assert taken == (1 if amount is None else amount)


def _is_right(amount: Any) -> bool:
    try:
        return 0 < float(amount) < math.inf
    except (OverflowError, ValueError):
        return False


# --- Values as strings ----------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(10**24), 10**24),
    st.floats(-1e22, 1e22).map(float.__round__),
    st.sampled_from([1e21, 1e-6, 1e-7, 0.1, -0.0, 5e-324, 123456789.0, 1.5e300, 0.1 + 0.2, 999999999999999900000.0]),
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=8,
)


@thorough
@given(VALUES)
def test_a_value_becomes_the_string_that_javascript_makes(value: Any) -> None:
    assert to_string(value) == rules.to_string(value)


@repeatable
@given(st.floats() | st.lists(st.floats() | st.none(), max_size=3))
def test_what_json_has_no_number_for_is_a_text(value: Any) -> None:
    encoded = msgspec.json.encode(nonfinite_as_text(value))
    assert to_string(msgspec.json.decode(encoded)) == rules.to_string(value)


# --- Screening, family by family ------------------------------------------------------------------

DIGITS = "0123456789"
SEPARATORS = st.sampled_from(["", " ", "-"])
WIDE_SEPARATORS = st.sampled_from([" ", "-", ".", "\u00a0", "\t", "\ufeff"])
AROUND = st.sampled_from([("", ""), ("see ", " end"), ("(", ")"), ("\u00e9", "\u00e9"), ("\n", "\n"), ("<", ">.")])


def digits(length: int) -> st.SearchStrategy[str]:
    return st.text(DIGITS, min_size=length, max_size=length)


@repeatable
@given(AROUND, digits(3), digits(2), digits(4), st.sampled_from([" ", "-"]))
def test_a_social_security_number_by_its_parts(
    around: tuple[str, str], area: str, group: str, serial: str, separator: str
) -> None:
    text = f"{around[0]}{area}{separator}{group}{separator}{serial}{around[1]}"
    kind = sensitive_kind(text)
    # A number that was never given out may still be a taxpayer's.
    assert (kind == "a US social security number") == rules.is_ssn(area, group, serial)


@repeatable
@given(AROUND, st.lists(st.integers(0, 300).map(str) | digits(2), min_size=4, max_size=4))
def test_an_ipv4_address_by_its_octets(around: tuple[str, str], octets: list[str]) -> None:
    text = ".".join(octets)
    assert (sensitive_kind(f"{around[0]}{text}{around[1]}") == "an IPv4 address") == rules.is_ipv4(text)
    assert sensitive_kind(f"v{text}") is None


@repeatable
@given(AROUND, st.integers(13, 19).flatmap(digits), st.integers(0, 9))
def test_a_card_number_by_its_check_digit(around: tuple[str, str], number: str, check: int) -> None:
    number = number[:-1] + str(check)
    kind = sensitive_kind(f"{around[0]}{number}{around[1]}")
    assert (kind == "a card number") == rules.luhn(number)


@repeatable
@given(AROUND, digits(3), digits(3), digits(3), st.sampled_from([" ", "-"]))
def test_a_canadian_number_by_its_check_digit(
    around: tuple[str, str], first: str, second: str, third: str, separator: str
) -> None:
    text = f"{around[0]}{first}{separator}{second}{separator}{third}{around[1]}"
    expected = "a Canadian social insurance number" if rules.luhn(first + second + third) else None
    assert sensitive_kind(text) == expected


# Without 8 and 11, whose last ten digits are a US number.
LENGTHS = st.sampled_from([3, 4, 5, 6, 7, 9, 10, 12, 13, 14, 15])


@repeatable
@given(st.sampled_from("23456789"), digits(1), WIDE_SEPARATORS, LENGTHS.flatmap(digits))
def test_an_international_number_needs_a_separator_and_eight_to_fifteen_digits(
    first: str, second: str, separator: str, rest: str
) -> None:
    kind = sensitive_kind(f"+{first}{second}{separator}{rest[0]}{separator}{rest[1:]}")
    # At least eight characters, separators included, come after the first separator.
    if len(rest) + 1 >= 8 and 2 + len(rest) <= 15:
        assert kind is not None
    else:
        assert kind != "a phone number"
    assert sensitive_kind(f"+{first}{second}{rest}") != "a phone number"


@repeatable
@given(
    st.sampled_from(["Street", "St", "Avenue", "Blvd", "Way", "Run", "Xing", "Alley", "street"]),
    st.lists(st.sampled_from(["Elm", "O'Neil", "St.", "King-Jr", "A", "elm"]), min_size=0, max_size=7),
    st.integers(0, 999_999).map(str),
    st.sampled_from([" ", "\u00a0", "\n", "  "]),
)
def test_a_street_address_by_its_words(suffix: str, words: list[str], number: str, space: str) -> None:
    right = suffix not in {"Alley", "street"} and len(number) <= 5 and 1 <= len(words) <= 5
    right = right and all(len(word) > 1 and word[0].isupper() for word in words)
    # A shorter address may end at an earlier suffix.
    earlier = any(
        word in {"St", "St."} and 1 <= at <= 5 and all(len(one) > 1 and one[0].isupper() for one in words[:at])
        for at, word in enumerate(words)
    )
    found = sensitive_kind(space.join([number, *words, suffix])) == "a street address"
    assert found == (right or (earlier and len(number) <= 5))


TOKENS = [
    ("a Slack token", "xox", "abprs", "-", 10),
    ("a GitHub token", "gh", "oprsu", "_", 20),
]


@repeatable
@given(st.sampled_from(TOKENS), st.sampled_from("abcdefghijklmnopqrstuvwxyz"), st.integers(5, 25), AROUND)
def test_a_token_by_its_letter_and_its_length(
    token: tuple[str, str, str, str, int], letter: str, length: int, around: tuple[str, str]
) -> None:
    kind, start, letters, separator, least = token
    text = f"{around[0]}{start}{letter}{separator}{'k' * length}{around[1]}"
    assert (sensitive_kind(text) == kind) == (letter in letters and length >= least)


@repeatable
@given(st.sampled_from(["Bearer", "BASIC", "token", "Digest", "Bear"]), BLANK, st.integers(5, 12))
def test_an_authorization_by_javascripts_white_space(scheme: str, space: str, length: int) -> None:
    text = f"{scheme}{space}{'k' * length}"
    right = scheme != "Bear" and bool(space) and not rules.trim(space) and length >= 8
    assert (sensitive_kind(text) == "an authorization header") == right


@repeatable
@given(st.sampled_from(["", "RSA ", "EC ", "rsa "]), st.sampled_from(["", "RSA ", "x"]), st.booleans(), st.text())
def test_a_private_key_by_its_two_lines(begin: str, end: str, reverse: bool, between: str) -> None:
    lines = [f"-----BEGIN {begin}PRIVATE KEY-----", f"-----END {end}PRIVATE KEY-----"]
    if reverse:
        lines.reverse()
    right = begin != "rsa " and end != "x" and not reverse
    assert (sensitive_kind(between.join(lines)) == "a private key") == right


@repeatable
@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=6))
def test_each_entry_is_judged_by_itself(metadata: dict[str, Any]) -> None:
    kept, dropped = filter_metadata(metadata)
    assert list(kept) == [name for name in metadata if name not in dropped]
    assert all(text == rules.to_string(metadata[name]) for name, text in kept.items())
    assert all(sensitive_kind(rules.to_string(metadata[name])) == kind for name, kind in dropped.items())


# --- The whole goal -------------------------------------------------------------------------------


@repeatable
@given(
    st.text(min_size=1, max_size=8),
    st.integers(1, 10**6) | st.decimals(Decimal("0.01"), 1000, places=2),
    st.dictionaries(st.text(max_size=4), VALUES, max_size=7),
    st.sampled_from(["increment", "decrement"]),
)
def test_a_goal_goes_out_with_the_fields_of_the_vendors_sdk(
    goal_id: str, amount: Any, metadata: dict[str, Any], direction: Any
) -> None:
    vendor = SessionSight(secret_api_key="k", property_id="shop", metadata_over_limit="keep")
    context = TrackingContext(sessionsight=SessionSightIds(session_id="s-1", visitor_id="v-1"), user_id="user_1")
    record = goal(goal_id, direction, amount, {name: nonfinite_as_text(value) for name, value in metadata.items()})
    (call,) = vendor.build_requests([entry(record, context)], now=NOW)
    assert call.url == f"https://api.sessionsight.com/v1/goals/{direction}"
    assert call.headers == {"Content-Type": "application/json", "x-api-key": "k"}
    kept, _ = filter_metadata(msgspec.json.decode(record.properties))
    expected = {"goalId": goal_id, "propertyId": "shop", "amount": float(amount), "sessionId": "s-1"}
    body = json.loads(call.body)
    assert {**body, "amount": float(body["amount"])} == {**expected, **({"metadata": kept} if kept else {})}
