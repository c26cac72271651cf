"""JavaScript's rules for white space and for strings, which the vendors' own SDKs apply.

Values must be the same as those that the vendors' SDKs send. Python's `str.strip`, `str.isspace` and `str` differ.
"""

from __future__ import annotations

import math
from decimal import Decimal
from numbers import Real
from typing import Any

__all__ = ["WHITESPACE", "is_blank", "length", "nonfinite_as_text", "to_string", "trim"]

# https://tc39.es/ecma262/#prod-WhiteSpace and #prod-LineTerminator: with U+FEFF, without U+001C to U+001F and U+0085.
WHITESPACE = (
    "\t\n\v\f\r \xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
_MAX_DEPTH = 100


def trim(text: str) -> str:
    """Strip white space from both ends, as `String.prototype.trim` does.

    Example:
        >>> trim(chr(0xFEFF) + " a "), len(trim(chr(0x85)))
        ('a', 1)
    """
    return text.strip(WHITESPACE)


def is_blank(text: str) -> bool:
    """Return whether text is empty after trimming."""
    return not text.strip(WHITESPACE)


def length(text: str) -> int:
    """Return the number of UTF-16 code units, as `String.prototype.length` does.

    Example:
        >>> length("a"), length(chr(0x1F600))
        (1, 2)
    """
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def to_string(value: Any) -> str:
    """Convert a decoded JSON value as JavaScript's `String()` does.

    Integers below 10**21 keep all their digits, even those that a JavaScript number cannot represent, because they are
    usually ids.

    Source: https://tc39.es/ecma262/#sec-tostring

    Example:
        >>> to_string(True), to_string(None), to_string([1, None, ["a"]]), to_string({"a": 1}), to_string(1e21)
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
            return _number(_float(value))
        case list():
            return ",".join("" if item is None else to_string(item) for item in value)
    return "[object Object]"


def nonfinite_as_text(value: Any, depth: int = _MAX_DEPTH) -> Any:
    """Replace NaN and the infinities by the text that `String()` returns, also in nested lists.

    JSON cannot represent them, so an encoder would write null.

    Example:
        >>> nonfinite_as_text([float("nan"), [float("-inf")], 1.5])
        ['NaN', ['-Infinity'], 1.5]
    """
    match value:
        case int():
            return value
        case Decimal():
            return value if value.is_finite() else _nonfinite(nan=value.is_nan(), negative=value.is_signed())
        case Real():
            return value if math.isfinite(value) else _nonfinite(nan=math.isnan(value), negative=value < 0)
        case list() | tuple() if depth:
            return [nonfinite_as_text(item, depth - 1) for item in value]
    return value


def _float(value: float | Decimal) -> float:
    try:
        return float(value)
    except OverflowError:  # of an int; a Decimal becomes infinity
        return math.inf if value > 0 else -math.inf


def _number(number: float) -> str:
    """Return the shortest digits that identify the number, without an exponent up to 21 places.

    Source: https://tc39.es/ecma262/#sec-numeric-types-number-tostring
    """
    if not math.isfinite(number):
        return _nonfinite(nan=math.isnan(number), negative=number < 0)
    sign, digit_tuple, power = Decimal(repr(number)).normalize().as_tuple()
    digits = "".join(map(str, digit_tuple))
    point = len(digits) + int(power)  # position of the decimal point, from the first digit
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


def _nonfinite(*, nan: bool, negative: bool) -> str:
    if nan:
        return "NaN"
    return "-Infinity" if negative else "Infinity"
