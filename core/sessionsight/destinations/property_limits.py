"""Properties cut down to what a vendor documents: short strings, short lists, nothing nested, no nulls."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

__all__ = ["Fit", "cut"]


class Fit(Struct, frozen=True, kw_only=True):
    """The limits that properties must fit.

    Example:
        >>> fit = Fit(max_string=5, max_array=2)
        >>> fit({"title": "a long title", "tags": ["a", "b", "c"], "cart": {"total": 3, "coupon": None}})
        {'title': 'a lon', 'tags': ['a', 'b'], 'cart_total': 3}
    """

    max_string: int | None
    """Characters in a string; None for no limit."""
    max_array: int | None
    """Elements in an array; None for no limit."""
    nested: Literal["flatten", "as_given"] = "flatten"
    """`"flatten"` makes `{"cart": {"total": 3}}` a `cart_total`, and numbers the elements of a list of objects."""
    nulls: Literal["drop", "as_given"] = "drop"

    def holds(self, encoded: bytes) -> bool:
        """Whether an encoded object fits as it stands. Never wrong with a yes; a no may be mere suspicion."""
        if (self.nested == "flatten" and (b"[" in encoded or encoded.find(b"{", 1) > 0)) or (
            self.max_array is not None and b"[" in encoded
        ):
            return False
        if self.nulls == "drop" and b"null" in encoded:
            return False
        if self.max_string is None or len(encoded) <= self.max_string:
            return True
        # No piece between two quotes is too long; a quote inside a string is escaped.
        return b"\\" not in encoded and max(map(len, encoded.split(b'"'))) <= self.max_string

    def __call__(self, properties: dict[str, Any]) -> dict[str, Any]:
        """The same properties, fitted. A name that stands there already is never overwritten by a flattened one."""
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
                return cut(value, self.max_string)
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


def cut(text: str, limit: int | None) -> str:
    """The start of a text, as long as a vendor allows; None is no limit.

    Counted as JavaScript counts, so that the vendor's own measure is met by any reading of "characters".

    Example:
        >>> cut("a long title", 5), cut("\U0001f600\U0001f600", 3)
        ('a lon', '\U0001f600')
    """
    if limit is None or len(text) * 2 <= limit:
        return text
    return text.encode("utf-16-le", "replace")[: limit * 2].decode("utf-16-le", "ignore")
