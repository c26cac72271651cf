"""Compares captured records with expected ones, and formats the differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from difflib import SequenceMatcher
from typing import Any

from msgspec import Struct

from sessionsight.capture.encoding import decode, encode
from sessionsight.testing.captured import CapturedRecord

__all__ = ["Expectation", "format_records", "matches"]

_MAX_LISTED = 20
_MAX_LENGTH = 160


class Expectation(Struct, frozen=True, kw_only=True):
    """A record that a test expects. Only the given values are compared."""

    kind: str
    name: str | None = None
    fields: dict[str, Any] = {}
    """Values of attributes of `CapturedRecord`."""
    properties: Mapping[str, Any] = {}

    def matched_by(self, captured: CapturedRecord) -> bool:
        """Return whether a record matches."""
        return not self.differences(captured)

    def differences(self, captured: CapturedRecord) -> list[str]:
        """Return the differences of a record, one per line."""
        lines: list[str] = []
        if self.name is not None and captured.name != self.name:
            lines.append(f"name: expected {self.name!r}, captured {captured.name!r}")
        for name, value in self.fields.items():
            if not matches(value, found := getattr(captured, name)):
                lines.append(f"{name}: expected {_format_value(value)}, captured {_format_value(found)}")
        for name, value in self.properties.items():
            if name not in captured.properties:
                lines.append(f"{name}: expected {_format_value(value)}, not captured")
            elif not matches(value, found := captured.properties[name]):
                lines.append(f"{name}: expected {_format_value(value)}, captured {_format_value(found)}")
        return lines

    def explain(self, captured: Sequence[CapturedRecord], dropped: Sequence[CapturedRecord]) -> str:
        """Format the expectation, the closest record with its differences, and all other records."""
        lines = [f"no matching {self.kind} was captured", "", "expected:", f"    {self}"]
        same_kind = [one for one in captured if one.kind == self.kind]
        closest = min(same_kind, key=self._distance, default=None)
        if closest is not None:
            lines += ["", "closest:", f"    {_line(closest)}"]
            lines += [f"        {difference}" for difference in self.differences(closest)]
        lines += format_records("other captured records:", [one for one in captured if one is not closest])
        lines += format_records("captured and dropped:", dropped)
        if not captured and not dropped:
            lines += ["", "nothing was captured; a request submits its records when its response has ended"]
        return "\n".join(lines)

    def _distance(self, captured: CapturedRecord) -> tuple[bool, float, int]:
        other = self.name is not None and captured.name != self.name
        unlike = 1 - SequenceMatcher(None, self.name or "", captured.name).ratio() if other else 0.0
        return other, unlike, len(self.differences(captured))

    def __str__(self) -> str:
        return _format_record(self.kind, self.name, self.fields, self.properties)


def matches(expected: Any, found: Any) -> bool:
    """Return whether a decoded value equals the expected one after encoding.

    An object that cannot be encoded is compared by its own `==`, such as `unittest.mock.ANY`.

    Example:
        >>> matches({"price": 49.9, "tags": ("a", "b")}, {"price": Decimal("49.90"), "tags": ["a", "b"]})
        True
    """
    if isinstance(expected, Mapping) and isinstance(found, dict):
        named = {_json_name(key): value for key, value in expected.items()}
        return named.keys() == found.keys() and all(matches(value, found[name]) for name, value in named.items())
    if isinstance(expected, list | tuple) and isinstance(found, list):
        return len(expected) == len(found) and all(map(matches, expected, found))
    unknown: list[type] = []
    encoded = encode({"value": expected}, unknown.append)
    if unknown:
        return bool(expected == (float(found) if isinstance(found, Decimal) else found))
    value = decode(encoded)["value"]
    # True equals 1 in Python, but not in JSON.
    return bool(value == _as_decimal(found)) and isinstance(value, bool) == isinstance(found, bool)


def format_records(title: str, captured: Sequence[CapturedRecord], *, skipped: bool = False) -> list[str]:
    """Format records under a title, one per line; return an empty list if there are none.

    Args:
        title: The first line.
        captured: The records; the first 20 are listed.
        skipped: Add the vendors that would skip a record.
    """
    if not captured:
        return []
    lines = ["", title, *(f"    {_line(one)}{_skipped(one) if skipped else ''}" for one in captured[:_MAX_LISTED])]
    if len(captured) > _MAX_LISTED:
        lines.append(f"    and {len(captured) - _MAX_LISTED} more")
    return lines


def _json_name(key: Any) -> str:
    """Return the JSON name of a mapping's key."""
    return key if isinstance(key, str) else next(iter(decode(encode({key: None}))))


def _as_decimal(found: Any) -> Any:
    """Convert floats, which a goal's amount may be, to Decimals, as in properties."""
    return decode(encode({"value": found}))["value"] if isinstance(found, float) else found


def _line(captured: CapturedRecord) -> str:
    goal = {"direction": captured.direction, "amount": captured.amount} if captured.kind == "goal" else {}
    line = _format_record(captured.kind, captured.name, {**goal, "user_id": captured.user_id}, captured.properties)
    line = line if len(line) <= _MAX_LENGTH else f"{line[:_MAX_LENGTH]}…"
    return line if captured.dropped is None else f"{line} ({captured.dropped})"


def _skipped(captured: CapturedRecord) -> str:
    skipped = ", ".join(f"{name}: {reason}" for name, reason in captured.skipped.items())
    return f" ({skipped})" if skipped else ""


def _format_record(kind: str, name: str | None, fields: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    title = kind if name is None or name == kind else f"{kind} {name!r}"
    return "  ".join(
        filter(
            None,
            [title, _format_pairs((n, v) for n, v in fields.items() if v is not None), _format_properties(properties)],
        )
    )


def _format_properties(properties: Mapping[str, Any]) -> str:
    return f"{{{_format_pairs(properties.items())}}}" if properties else ""


def _format_pairs(items: Iterable[tuple[str, Any]]) -> str:
    return ", ".join(f"{name}={_format_value(value)}" for name, value in items)


def _format_value(value: Any) -> str:
    return str(value) if isinstance(value, Decimal) else repr(value)
