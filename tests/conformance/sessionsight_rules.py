"""SessionSight's documented rules for goals and cookies, written down once more, as plainly as they can be.

The code under test is fast and linear; this is neither. It shares nothing with it, so that a mistake in one is seen
against the other. Source of the rules: https://github.com/SessionSight/sdks (goals/src, sdk-shared/src).
"""

import math
import re
from typing import Any

# https://tc39.es/ecma262/#prod-WhiteSpace, as code units
_WHITE = {9, 10, 11, 12, 13, 32, 160, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000, 0xFEFF}


def trim_start(text: str) -> str:
    """`String.prototype.trimStart`."""
    while text and ord(text[0]) in _WHITE:
        text = text[1:]
    return text


def trim(text: str) -> str:
    """`String.prototype.trim`."""
    text = trim_start(text)
    while text and ord(text[-1]) in _WHITE:
        text = text[:-1]
    return text


def cookies(header: str) -> dict[str, str]:
    """The names and values of a Cookie header."""
    found: dict[str, str] = {}
    first, *others = header.split(";")
    # White space goes with the semicolon before it, but not at the start of the header.
    for piece in (first, *map(trim_start, others)):
        at = piece.find("=")
        if at <= 0:
            continue
        name, value = trim(piece[:at]), trim(piece[at + 1 :])
        if name:
            found[name] = decode_uri_component(value)
    return found


def decode_uri_component(value: str) -> str:
    """All escapes of a value decoded as UTF-8; the value itself when one of them is wrong."""
    result, at = "", 0
    while at < len(value):
        if value[at] != "%":
            result, at = result + value[at], at + 1
            continue
        octets = b""
        while at < len(value) and value[at] == "%":
            digits = value[at + 1 : at + 3]
            if len(digits) != 2 or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
                return value
            octets, at = octets + bytes([int(digits, 16)]), at + 3
        try:
            result += octets.decode("utf-8")
        except UnicodeDecodeError:
            return value
    return result


def session_id(header: str) -> str | None:
    """The session that the API takes out of a Cookie header."""
    value = cookies(header).get("ss_sid", "")
    allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-"
    return value if 0 < len(value) <= 128 and all(character in allowed for character in value) else None


def to_string(value: Any) -> str:
    """`String(value)`, of what JSON can hold; for numbers see `number`."""
    if value is None:
        return "null"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ",".join("" if item is None else to_string(item) for item in value)
    if isinstance(value, dict):
        return "[object Object]"
    return number(value)


def number(value: float) -> str:
    """`String(number)`: Python's shortest digits, in JavaScript's notation."""
    if math.isnan(value):
        return "NaN"
    if value in {float("inf"), float("-inf")}:
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, int) and abs(value) < 10**21:
        return str(value)
    mantissa, _, exponent = f"{float(value)!r}".partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, part = mantissa.removeprefix("-").partition(".")
    digits, point = whole + part, len(whole) + int(exponent or 0)
    point -= len(digits) - len(digits.lstrip("0"))
    digits = digits.strip("0")
    if not digits:
        return "0"
    if point > 21 or point < -5:
        return f"{sign}{digits[0]}{'.' if digits[1:] else ''}{digits[1:]}e{'+' if point > 0 else ''}{point - 1}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    if point >= len(digits):
        return f"{sign}{digits}{'0' * (point - len(digits))}"
    return f"{sign}{digits[:point]}.{digits[point:]}"


def luhn(digits: str) -> bool:
    """The check digit of cards and of Canadian SINs."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        step = int(digit) * (2 if place % 2 else 1)
        total += step - 9 if step > 9 else step
    return total % 10 == 0


def is_ipv4(text: str) -> bool:
    """Four octets without leading zeros."""
    octets = text.split(".")
    return len(octets) == 4 and all(re.fullmatch(r"0|[1-9][0-9]{0,2}", one) and int(one) <= 255 for one in octets)


def is_ssn(area: str, group: str, serial: str) -> bool:
    """Of nine digits: none of the parts that were never given out."""
    return area not in {"000", "666"} and area[0] != "9" and group != "00" and serial != "0000"
