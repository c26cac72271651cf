"""The families of SessionSight's screening are in the conformance table; here are the edges between them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionsight.destinations.pii_filter import filter_metadata, sensitive_kind

LUHN_VALID = ["4242424242424242", "4111111111111111", "5105105105105100", "378282246310005", "6011111111111117"]


@pytest.mark.parametrize("number", LUHN_VALID)
@pytest.mark.parametrize("sentence", ["{}", "paid with {}", "{} 12/29", "1 {}", "nr {}-123", "{}."])
def test_a_card_number_is_found_whatever_digits_stand_beside_it(number: str, sentence: str) -> None:
    assert sensitive_kind(sentence.format(number)) is not None


def test_a_card_number_needs_its_check_digit() -> None:
    assert sensitive_kind("4242424242424241") is None


def test_the_reason_is_the_gravest() -> None:
    assert sensitive_kind("Bearer abcdefgh at 10.0.0.1") == "an authorization header"


@given(st.uuids())
def test_a_uuid_always_stays(uuid: object) -> None:
    assert sensitive_kind(str(uuid)) is None
    assert sensitive_kind(str(uuid).upper()) is None


def test_a_uuid_hides_nothing_beside_it() -> None:
    uuid = "550e8400-e29b-41d4-a716-446655440000"
    assert sensitive_kind(f"{uuid} 4242424242424242") == "a card number"
    assert sensitive_kind(f"sk-{uuid}") == "an API key"
    assert sensitive_kind(f"Bearer {uuid}") == "an authorization header"


@pytest.mark.parametrize("text", ["std::vector", "x::y", "12:30", "ratio 3:2", "a:b:c", "key:value"])
def test_colons_alone_are_no_address(text: str) -> None:
    assert sensitive_kind(text) is None


@pytest.mark.parametrize("text", ["١٢٣٤٥٦٧٨٩٠", "".join(map(chr, range(0xFF10, 0xFF1A)))])
def test_digits_of_other_scripts_are_none_as_in_javascript(text: str) -> None:
    assert sensitive_kind(text) is None


def test_a_letter_of_another_script_ends_no_word_as_in_javascript() -> None:
    assert sensitive_kind("é1234567890") == "a phone number"


@pytest.mark.parametrize("text", ["+9 9-9-9-9-9-9-9", "+999 999999999999"])
def test_an_international_number_has_eight_to_fifteen_digits_and_a_separator(text: str) -> None:
    assert sensitive_kind(text) == "a phone number"
    assert sensitive_kind(text.replace(" ", "").replace("-", "")) is None


@pytest.mark.parametrize("text", ["+9 9-9-9-9-9-9", "+999 9999999999999"])
def test_other_numbers_of_digits_after_a_plus_are_not_a_phone_number(text: str) -> None:
    assert sensitive_kind(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "http://" * 9000,
        "eyJ-" * 16000,
        "1 " * 32000,
        "a:" * 32000,
        "9" * 64000,
        "AA11" * 16000,
        "+1(" * 20000,
        "x@y://" * 10000,
    ],
)
def test_no_text_hangs(text: str) -> None:
    # Where time grows with the square, this takes minutes, and pytest's faulthandler_timeout ends the run.
    sensitive_kind(text)


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    sensitive_kind(text)


def test_what_was_dropped_is_told_apart_by_name() -> None:
    assert filter_metadata({"a": "x", "b": "10.0.0.1"}) == ({"a": "x"}, {"b": "an IPv4 address"})


BEGIN, END = "-----BEGIN EC PRIVATE KEY-----", "-----END EC PRIVATE KEY-----"
# Each pair: what the vendor's SDK drops, and its nearest relative that it sends.
PAIRS = [
    ("a Slack token", "xoxb-1234567890", "xoxz-abcdefghij"),
    ("a Slack token", "xoxs-abcdefghij", "xoxs-abcdefghi"),
    ("a phone number", "+44 20 7946 0958", "+442079460958"),
    ("a phone number", "+49-30-901820", "+49309018201"),
    ("a private key", f"{BEGIN}\nAA\n{END}", f"{BEGIN}\nAA"),
    ("a private key", f"{BEGIN}{END}", f"{END}\n{BEGIN}"),
    ("an authorization header", "Bearer\u00a0abcdefgh", "Bearer\u0085abcdefgh"),
    ("an authorization header", "token\ufeff\u202f\tabcdefgh", "token\u001cabcdefgh"),
    ("an authorization header", "Basic abcd+/=_", "Basic abcdefg~"),
    ("a phone number", "555\u00a0123\u202f4567", "555\u200b123\u200b4567"),
    ("a phone number", "555\n123\n4567", "555_123_4567"),
    ("a UK national insurance number", "AB\u00a012\u202f34\ufeff56\tC", "AB  12 34 56 C"),
    ("a UK national insurance number", "PN123456B", "PO123456B"),
    ("a UK national insurance number", "AB123456A", "QQ123456A"),
    ("a street address", "1 Aa Bb Cc Dd Ee Drive", "1 Aa Bb Cc Dd Ee Ff Drive"),
    ("a street address", "10 Points All The Way", "10 points all the way"),
    ("a street address", "99999 Elm St.", "100000 Elm St."),
    ("a street address", "12\u00a0Elm\nRun", "12 Elm Alley"),
    ("an IBAN", "NO93860111179", "NO9386011117"),
    ("an IBAN", "AB12CDEF34561", "ab12cdef34561"),
    ("an IBAN", "GB82\u202fWEST\u202f1234\u202f5698", "GB82  WEST  1234  5698"),
    ("a US social security number", "123-45-6789", "123-00-6789"),
    ("a US social security number", "100010001", "100000000"),
    ("a US social security number", "123 45 6789", "123-45-0000"),
    ("an IPv4 address", "1.2.3.4", "v1.2.3.4"),
    ("an IPv4 address", "10.0.0.1", "10.0.0.01"),
    ("an IPv4 address", "1.2.3.4.5", "1.2.3.456"),
    ("an IPv6 address", "::", "std::vector"),
    ("an IPv6 address", "1:2:3:4", "1:2:3:4:5:6:7:8:9"),
    ("an IPv6 address", "2001:db8::", "2001:db8:"),
    ("a card number", "4242\u00a04242\u202f4242 4242", "4242_4242_4242_4242"),
    ("a card number", "42-22-22-22-22-22-2", "42/22/22/22/22/22/2"),
    ("a JSON web token", "eyJhbGciOiJ.eyJzdWIiOiI.SflKxwRJ", "eyJhbGciOiJ.c3ViAAAAAAAA.SflKxwRJ"),
    ("a presigned AWS address", "x-amz-date=2026", "x-amz-date="),
    ("a presigned AWS address", "X-Amz-SignedHeaders=host", "X-Amz-Other=host"),
    ("a URL with a query or fragment", "HTTPS://example.com/a?b", "https://example.com/a b?c"),
    ("a URL with a query or fragment", "see (http://example.com#x)", "ftp://example.com/?a=b"),
    ("a URL with a password", "redis://user:pass@cache", "redis://:pass@cache"),
    ("an AWS access key", "AKIAABCDEFGHIJKLMNOP", "AKIAABCDEFGHIJKLMNOPQ"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "dropped", "sent"), PAIRS)
def test_the_vendors_sdk_drops_the_one_and_sends_the_other(kind: str, dropped: str, sent: str) -> None:
    assert sensitive_kind(dropped) == kind
    assert sensitive_kind(sent) is None


def test_a_long_private_key_is_seen_whole() -> None:
    key = f"-----BEGIN RSA PRIVATE KEY-----\n{'A' * 3000}\n-----END RSA PRIVATE KEY-----"
    assert filter_metadata({"key": key}) == ({}, {"key": "a private key"})
