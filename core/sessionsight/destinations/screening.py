"""What SessionSight's own SDK keeps out of goal metadata: secrets, card numbers, phone numbers and the like.

The SDK drops each entry whose value looks like one of these, and sends the rest. So do we, before
anything leaves the process. The families are those of https://github.com/SessionSight/sdks
(sdk-shared); the expressions are our own. Keys and e-mail addresses are not looked at.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

__all__ = ["js_string", "objection", "screen"]


def screen(metadata: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Turn metadata into strings, and set apart what must not leave.

    Args:
        metadata: Decoded JSON: names to values.

    Returns:
        The entries that may go, and the names of the others with what each looks like.

    Example:
        >>> screen({"plan": "pro", "seats": 5, "phone": "+44 20 7946 0958"})
        ({'plan': 'pro', 'seats': '5'}, {'phone': 'a phone number'})
    """
    kept: dict[str, str] = {}
    dropped: dict[str, str] = {}
    for name, value in metadata.items():
        text = js_string(value)
        reason = objection(text)
        if reason is None:
            kept[name] = text
        else:
            dropped[name] = reason
    return kept, dropped


def objection(text: str) -> str | None:
    """What a text holds that must not leave, or None.

    Example:
        >>> objection("ord_12345"), objection("card 4242 4242 4242 4242")
        (None, 'a card number')
    """
    for reason, pattern in _SECRETS:
        if pattern.search(text):
            return reason
    # The digits of a UUID may look like anything.
    text = _UUID.sub("uuid", text)
    for reason, pattern in _NUMBERS:
        if pattern.search(text):
            return reason
    if any(_luhn(digits) for digits in _card_candidates(text)):
        return "a card number"
    if any(_luhn(digits) for digits in _sin_candidates(text)):
        return "a Canadian social insurance number"
    if any(_is_ipv6(match[0]) for match in _IPV6.finditer(text)):
        return "an IPv6 address"
    return None


def js_string(value: Any) -> str:
    """A decoded JSON value as JavaScript's `String()` writes it.

    https://tc39.es/ecma262/#sec-tostring

    Example:
        >>> js_string(True), js_string(None), js_string([1, None, ["a"]]), js_string({"a": 1}), js_string(1e21)
        ('true', 'null', '1,,a', '[object Object]', '1e+21')
    """
    match value:
        case str():
            return value
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() if abs(value) < 10**21:
            return str(value)
        case int() | float() | Decimal():
            return _js_number(float(str(value)))  # of a string, so that a huge one becomes infinity
        case list():
            return ",".join("" if item is None else js_string(item) for item in value)
    return "[object Object]"


def _js_number(number: float) -> str:
    """The shortest digits that make the number again, and no exponent up to 21 places.

    https://tc39.es/ecma262/#sec-numeric-types-number-tostring
    """
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else f"{'-' if number < 0 else ''}Infinity"
    sign, digit_tuple, power = Decimal(repr(number)).normalize().as_tuple()
    digits = "".join(map(str, digit_tuple))
    point = len(digits) + int(power)  # where the decimal point stands, counted from the first digit
    if digits == "0":
        return "0"
    if len(digits) <= point <= 21:
        text = digits + "0" * (point - len(digits))
    elif 0 < point <= 21:
        text = f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        text = f"0.{'0' * -point}{digits}"
    else:
        fraction = f".{digits[1:]}" if len(digits) > 1 else ""
        text = f"{digits[0]}{fraction}e{point - 1:+d}"
    return f"-{text}" if sign else text


def _card_candidates(text: str) -> Iterator[str]:
    """Each row of whole digit groups that has the length of a card number, whatever stands beside it."""
    for run in _DIGIT_GROUPS.finditer(text):
        groups = re.split(r"[ -]", run[0])
        for first in range(len(groups)):
            digits = ""
            for group in groups[first:]:
                digits += group
                if len(digits) > 19:
                    break
                if len(digits) >= 13:
                    yield digits


def _sin_candidates(text: str) -> Iterator[str]:
    """Three groups of three; one may begin inside another."""
    position = 0
    while match := _CANADIAN_SIN.search(text, position):
        yield re.sub(r"[ -]", "", match[0])
        position = match.start() + 1


def _luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others, as on payment cards (ISO/IEC 7812-1)."""
    plain, doubled = digits[-1::-2], digits[-2::-2].translate(_DOUBLED)
    return (sum(map(int, plain)) + sum(map(int, doubled))) % 10 == 0


# A doubled digit, less nine when it has two digits itself.
_DOUBLED = str.maketrans("0123456789", "0246813579")


def _is_ipv6(candidate: str) -> bool:
    """The SDK counts colons: three or more between groups, or the `::` of a shortened address."""
    if "::" not in candidate:
        return candidate.count(":") >= 3
    try:
        return int(ipaddress.IPv6Address(candidate)) != 0
    except ValueError:
        return False


def _compiled(*patterns: tuple[str, str]) -> tuple[tuple[str, re.Pattern[str]], ...]:
    # ASCII, as in JavaScript: other scripts' letters end a word, and their digits are none.
    return tuple((reason, re.compile(pattern, re.ASCII)) for reason, pattern in patterns)


# Repetitions are bounded, so that no text takes more than linear time.
_SECRETS = _compiled(
    ("a private key", r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY"),
    ("a URL with a password", r"(?i)\b[a-z][a-z0-9+.-]{0,30}://[^\s/?#:@]{0,256}:[^\s/?#@]{1,256}@"),
    ("an authorization header", r"(?i)\b(?:bearer|basic|token|digest)\s{1,20}[a-z0-9._~+/=-]{8}"),
    ("a JSON web token", r"\beyJ[A-Za-z0-9_-]{4,2048}\.[A-Za-z0-9_-]{4,2048}\."),
    ("an API key", r"\bsk-[A-Za-z0-9_-]{20}"),
    ("a Stripe key", r"\b(?:sk|pk|rk|whsec)_(?:live|test)_[A-Za-z0-9]{16}"),
    ("a GitHub token", r"\bgh[pousr]_[A-Za-z0-9]{20}"),
    ("a Slack token", r"\bxox[a-zA-Z]-[A-Za-z0-9-]{10}"),
    ("an AWS access key", r"\bAKIA[0-9A-Z]{16}\b"),
    ("a presigned AWS address", r"(?i)\bX-Amz-(?:Signature|Credential|Security-Token)="),
    ("a Google API key", r"\bAIza[0-9A-Za-z_-]{35}"),
    ("a URL with a query or fragment", r"(?i)\bhttps?://[^\s?#]{1,2048}[?#]"),
)

_STREET_SUFFIXES = (  # https://pe.usps.com/text/pub28/28apc_002.htm, those in common use
    "Alley|Aly|Avenue|Ave|Boulevard|Blvd|Circle|Cir|Court|Ct|Cove|Cv|Crossing|Xing|Drive|Dr|Expressway|Expy|"
    "Freeway|Fwy|Highway|Hwy|Lane|Ln|Loop|Parkway|Pkwy|Place|Pl|Plaza|Plz|Road|Rd|Route|Rte|Square|Sq|Street|St|"
    "Terrace|Ter|Trail|Trl|Turnpike|Tpke|Way"
)
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
_NUMBERS = _compiled(
    ("an IBAN", r"\b[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]{4}){2,6}[ -]?[A-Z0-9]{3,6}\b"),
    ("a US social security number", r"\b(?!000|666|9)[0-9]{3}[ -]?[0-9]{2}[ -]?[0-9]{4}\b"),
    ("a US taxpayer number", r"\b9[0-9]{2}[ -]?(?:7[0-9]|8[0-8]|9[0-24-9])[ -]?[0-9]{4}\b"),
    ("a UK national insurance number", r"\b[A-Z]{2} ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]\b"),
    ("a phone number", r"(?<!\w)(?:\+?1[ .-]?)?(?:\([0-9]{3}\)|[0-9]{3})[ .-]?[0-9]{3}[ .-]?[0-9]{4}\b"),
    ("a phone number", r"\+[0-9](?:[ ().-]{0,2}[0-9]){7,14}(?![0-9])"),
    ("an IPv4 address", rf"(?<![0-9.])(?:{_OCTET}\.){{3}}{_OCTET}(?![0-9])"),
    ("a street address", rf"(?i)\b[0-9]{{1,6}} {{1,3}}(?:[a-z0-9.'-]{{1,40}} {{1,3}}){{1,3}}(?:{_STREET_SUFFIXES})\b"),
)
_DIGIT_GROUPS = re.compile(r"\b[0-9]+(?:[ -][0-9]+)*\b", re.ASCII)
_CANADIAN_SIN = re.compile(r"\b[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{3}\b", re.ASCII)
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}|(?=::))(?::[0-9A-Fa-f]{0,4}){2,8}(?![\w:])", re.ASCII)
_UUID = re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b", re.ASCII)
