"""Filter of goal metadata: removes values with secrets, card numbers, phone numbers and similar data.

SessionSight's SDK drops each entry whose value contains one of these, and sends the rest. This filter drops and keeps
the same entries before anything leaves the process. The rules are those of https://github.com/SessionSight/sdks
(sdk-shared), in regular expressions of this project. Keys of metadata and e-mail addresses are not filtered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sessionsight.javascript import WHITESPACE, to_string

__all__ = ["filter_metadata", "sensitive_kind"]


def filter_metadata(metadata: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Convert metadata to strings, and remove the entries with sensitive values.

    Args:
        metadata: Decoded JSON: names to values.

    Returns:
        The entries to send, and the names of the removed ones with the kind of data each looks like.

    Example:
        >>> filter_metadata({"plan": "pro", "seats": 5, "phone": "+44 20 7946 0958"})
        ({'plan': 'pro', 'seats': '5'}, {'phone': 'a phone number'})
    """
    kept: dict[str, str] = {}
    dropped: dict[str, str] = {}
    for name, value in metadata.items():
        text = to_string(value)
        kind = sensitive_kind(text)
        if kind is None:
            kept[name] = text
        else:
            dropped[name] = kind
    return kept, dropped


def sensitive_kind(text: str) -> str | None:
    """Return the kind of sensitive data in a text; None if there is none.

    Takes time linear in the length of the text.

    Example:
        >>> sensitive_kind("ord_12345"), sensitive_kind("card 4242 4242 4242 4242")
        (None, 'a card number')
    """
    if _has_private_key(text):
        return "a private key"
    for kind, pattern in _CREDENTIALS:
        if pattern.search(text):
            return kind
    if any(_JWT_START.search(match[0]) for match in _JWT_HEADER.finditer(text)):
        return "a JSON web token"
    if any(_HTTP_URL.search(match[0]) for match in _BEFORE_QUERY.finditer(text)):
        return "a URL with a query or fragment"
    # The digits of a UUID can look like any number.
    text = _UUID.sub("uuid", text)
    for kind, pattern in _NUMBERS:
        if pattern.search(text):
            return kind
    if any(_luhn(digits) for digits in _card_candidates(text)):
        return "a card number"
    if any(_luhn(_digits(match[0])) for match in _CANADIAN_SIN.finditer(text)):
        return "a Canadian social insurance number"
    if any(8 <= len(_digits(match[0])) <= 15 for match in _INTERNATIONAL_PHONE.finditer(text)):
        return "a phone number"
    return None


def _has_private_key(text: str) -> bool:
    """Return whether there is a complete PEM block: a BEGIN line, and an END line after it."""
    begin = _PEM_BEGIN.search(text)
    return begin is not None and _PEM_END.search(text, begin.end()) is not None


def _card_candidates(text: str) -> Iterator[str]:
    """Yield the digits of numbers that the vendor's SDK treats as card numbers, and of numbers in the usual forms.

    The SDK checks only the longest span of digits and separators, and so misses a card number that has other
    digits next to it, such as its expiry date.
    """
    for pattern in (_CARD_SPAN, _CARD_FORM):
        for match in pattern.finditer(text):
            digits = _digits(match[0])
            if 13 <= len(digits) <= 19:
                yield digits


def _luhn(digits: str) -> bool:
    """Return whether the last digit is the check digit of the others, as on payment cards (ISO/IEC 7812-1)."""
    plain, doubled = digits[-1::-2], digits[-2::-2].translate(_DOUBLED)
    return (sum(map(int, plain)) + sum(map(int, doubled))) % 10 == 0


# Each digit doubled, minus nine if the result has two digits.
_DOUBLED = str.maketrans("0123456789", "0246813579")


def _digits(text: str) -> str:
    return _NO_DIGITS.sub("", text)


def _pattern(expression: str) -> re.Pattern[str]:
    r"""Compile an expression in which `\s`, always inside a class, is JavaScript's white space.

    ASCII, as in JavaScript: letters of other scripts end a word, and their digits are not digits.
    """
    return re.compile(expression.replace(r"\s", WHITESPACE), re.ASCII)


def _patterns(*expressions: tuple[str, str]) -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((kind, _pattern(expression)) for kind, expression in expressions)


# No text takes more than linear time: a repetition has an upper bound, or begins where a run begins, or ends before
# the next place where it could begin.
_PEM_BEGIN = _pattern(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
_PEM_END = _pattern(r"-----END [A-Z0-9 ]*PRIVATE KEY-----")
_CREDENTIALS = _patterns(
    ("a URL with a password", r"(?i)\b[a-z][a-z0-9+.-]{0,63}://[^\s:/@]+:[^\s/@]+@"),
    ("an authorization header", r"(?i)\b(?:basic|bearer|digest|token)[\s]+[a-z0-9+./=_-]{8}"),
    ("an API key", r"\bsk-[\w-]{20}"),
    ("a Stripe key", r"\b(?:[prs]k|whsec)_(?:live|test)_[A-Za-z0-9]{16}"),
    ("a GitHub token", r"\bgh[oprsu]_[A-Za-z0-9]{20}"),
    ("a Slack token", r"\bxox[abprs]-[A-Za-z0-9-]{10}"),
    ("an AWS access key", r"\bAKIA[A-Z0-9]{16}\b"),
    (
        "a presigned AWS address",
        r"(?i)x-amz-(?:algorithm|credential|date|expires|security-token|signature|signedheaders)=[^\s&\"']",
    ),
    ("a Google API key", r"\bAIza[\w-]{35}"),
)
# The run of token characters before two more parts of a JWT, and where the header may begin in it.
_JWT_HEADER = _pattern(r"(?<![\w-])[\w-]+(?=\.eyJ[\w-]{8,}\.[\w-]{8})")
_JWT_START = _pattern(r"\beyJ[\w-]{8}")
# The run of address characters before a query or fragment, and where the address may begin in it.
_BEFORE_QUERY = _pattern(r"(?<![^\s\"'<>?#)])[^\s\"'<>?#)]+(?=[?#])")
_HTTP_URL = _pattern(r"(?is)\bhttps?://.")
_UUID = _pattern(r"(?i)\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b")

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_GROUP = r"[0-9A-Fa-f]{1,4}"
_GROUPS = rf"{_GROUP}(?::{_GROUP})*"
_FULL_IPV6 = rf"{_GROUP}(?::{_GROUP}){{3,7}}"
_SHORT_IPV6 = rf"{_GROUP}(?::[0-9A-Fa-f]{{0,4}})*::[0-9A-Fa-f]{{0,4}}(?::{_GROUP})*|::(?:{_GROUPS})?"
_STREET_SUFFIXES = (
    "Avenue|Ave|Boulevard|Blvd|Circle|Cir|Court|Ct|Crossing|Xing|Drive|Dr|Highway|Hwy|Lane|Ln|Loop|Parkway|Pkwy|"
    "Place|Pl|Road|Rd|Run|Square|Sq|Street|St|Terrace|Ter|Trail|Trl|Way"
)
_NUMBERS = _patterns(
    ("an IBAN", r"\b[A-Z]{2}[0-9]{2}(?:[\s-]?[0-9A-Z]{4}){2,8}[\s-]?[0-9A-Z]{1,4}\b"),
    (
        "a US social security number",
        r"\b(?!000|666|9)[0-9]{3}[ -]?(?!00)[0-9]{2}[ -]?(?!0000)[0-9]{4}\b",
    ),
    ("a US taxpayer number", r"\b9[0-9]{2}[ -]?(?:7[0-9]|8[0-8]|9[0-24-9])[ -]?[0-9]{4}\b"),
    (
        "a UK national insurance number",
        r"\b[ABCEGHJ-PRSTWXYZ][ABCEGHJ-NPRSTWXYZ](?:[\s]?[0-9]{2}){3}[\s]?[A-D]\b",
    ),
    (
        "a phone number",
        r"\b(?:\+?1[\s.-]?)?\(?[0-9]{3}\)?[\s.-]?[0-9]{3}[\s.-]?[0-9]{4}\b",
    ),
    ("an IPv4 address", rf"\b{_OCTET}(?:\.{_OCTET}){{3}}\b"),
    # Four to eight groups, or a `::` among them; a whole run of word characters and colons.
    ("an IPv6 address", rf"(?<![\w:])(?:{_FULL_IPV6}|{_SHORT_IPV6})(?![\w:])"),
    (
        "a street address",
        rf"(?<![A-Za-z0-9])[0-9]{{1,5}}[\s]+(?:[A-Z][A-Za-z'.-]+[\s]+){{1,5}}(?:{_STREET_SUFFIXES})\b",
    ),
)
_CARD_SPAN = _pattern(r"\b[0-9][0-9\s-]{11,22}[0-9]\b")
_CARD_FORM = _pattern(
    r"\b(?:[0-9]{13,19}|[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{4}|[0-9]{4}([ -])[0-9]{6}\2[0-9]{5})\b"
)
_CANADIAN_SIN = _pattern(r"\b[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{3}\b")
_INTERNATIONAL_PHONE = _pattern(r"\+[0-9]{1,3}[\s.-][0-9][0-9\s.-]{6,16}[0-9]\b")
_NO_DIGITS = _pattern(r"[^0-9]+")
