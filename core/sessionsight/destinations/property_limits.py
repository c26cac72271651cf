"""Limits on properties: lengths of strings and arrays, nesting, nulls."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

__all__ = ["PropertyLimits", "truncate_utf16"]


class PropertyLimits(Struct, frozen=True, kw_only=True):
    """Limits that properties are reduced to.

    Example:
        >>> limits = PropertyLimits(max_string=5, max_array=2)
        >>> limits({"title": "a long title", "tags": ["a", "b", "c"], "cart": {"total": 3, "coupon": None}})
        {'title': 'a lon', 'tags': ['a', 'b'], 'cart_total': 3}
    """

    max_string: int | None
    """Most characters in a string. None for no limit."""
    max_array: int | None
    """Most elements in an array. None for no limit."""
    nested: Literal["flatten", "keep"] = "flatten"
    """`"flatten"` turns `{"cart": {"total": 3}}` into `cart_total`, and numbers the elements of a list of objects."""
    nulls: Literal["drop", "keep"] = "drop"

    def fits(self, encoded: bytes) -> bool:
        """Return whether an encoded object is within the limits. May return false negatives, never false positives."""
        if (self.nested == "flatten" and (b"[" in encoded or encoded.find(b"{", 1) > 0)) or (
            self.max_array is not None and b"[" in encoded
        ):
            return False
        if self.nulls == "drop" and b"null" in encoded:
            return False
        if self.max_string is None or len(encoded) <= self.max_string:
            return True
        # No part between two quotes is too long; quotes inside a string are escaped.
        return b"\\" not in encoded and max(map(len, encoded.split(b'"'))) <= self.max_string

    def __call__(self, properties: dict[str, Any]) -> dict[str, Any]:
        """Return properties within the limits. A flattened name never overwrites an existing one."""
        fitted: dict[str, Any] = {}
        for name, value in properties.items():
            self._put(fitted, name, value, properties.keys() - {name})
        return fitted

    def _put(self, fitted: dict[str, Any], name: str, value: Any, taken: set[str]) -> None:
        if self.nested == "flatten" and isinstance(value, dict):
            for key, item in value.items():
                self._put(fitted, f"{name}_{key}", item, taken)
        elif self.nested == "flatten" and isinstance(value, list) and any(isinstance(x, dict | list) for x in value):
            for index, item in enumerate(value[: self.max_array]):
                self._put(fitted, f"{name}_{index}", item, taken)
        elif name not in taken and not (value is None and self.nulls == "drop"):
            fitted.setdefault(name, self._value(value))

    def _value(self, value: Any) -> Any:
        match value:
            case str():
                return truncate_utf16(value, self.max_string)
            case list():
                kept = [item for item in value if not (item is None and self.nulls == "drop")]
                return [self._value(item) for item in kept[: self.max_array]]
            case dict():
                return {
                    name: self._value(item)
                    for name, item in value.items()
                    if not (item is None and self.nulls == "drop")
                }
        return value


def truncate_utf16(text: str, limit: int | None) -> str:
    """Return the start of a text, at most `limit` UTF-16 code units long; all of it if the limit is None.

    JavaScript counts UTF-16 code units, so the result is short enough for each meaning of "characters".

    Example:
        >>> truncate_utf16("a long title", 5), truncate_utf16("\U0001f600\U0001f600", 3)
        ('a lon', '\U0001f600')
    """
    if limit is None or len(text) * 2 <= limit:
        return text
    return text.encode("utf-16-le", "replace")[: limit * 2].decode("utf-16-le", "ignore")
