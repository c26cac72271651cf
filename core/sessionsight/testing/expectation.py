"""What an assertion asks for, how far a record is from it, and how that is told."""

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
    """A record that a test expects: everything named here must be so, the rest may be anything."""

    kind: str
    name: str | None = None
    fields: dict[str, Any] = {}
    """Attributes of `CapturedRecord`."""
    properties: Mapping[str, Any] = {}

    def matched_by(self, captured: CapturedRecord) -> bool:
        """Whether this is such a record."""
        return not self.differences(captured)

    def differences(self, captured: CapturedRecord) -> list[str]:
        """How the record differs, a line each."""
        lines: list[str] = []
        if self.name is not None and captured.name != self.name:
            lines.append(f"name: asked for {self.name!r}, captured {captured.name!r}")
        for name, value in self.fields.items():
            if not matches(value, found := getattr(captured, name)):
                lines.append(f"{name}: asked for {_shown(value)}, captured {_shown(found)}")
        for name, value in self.properties.items():
            if name not in captured.properties:
                lines.append(f"{name}: asked for {_shown(value)}, not captured")
            elif not matches(value, found := captured.properties[name]):
                lines.append(f"{name}: asked for {_shown(value)}, captured {_shown(found)}")
        return lines

    def explain(self, captured: Sequence[CapturedRecord], dropped: Sequence[CapturedRecord]) -> str:
        """Why none of these is such a record: what was asked for, the nearest one, and all the others."""
        lines = [f"no such {self.kind} was captured", "", "asked for:", f"    {self}"]
        same_kind = [one for one in captured if one.kind == self.kind]
        nearest = min(same_kind, key=self._distance, default=None)
        if nearest is not None:
            lines += ["", "nearest:", f"    {_line(nearest)}"]
            lines += [f"        {difference}" for difference in self.differences(nearest)]
        lines += format_records("captured besides:", [one for one in captured if one is not nearest])
        lines += format_records("captured, and not to be sent:", dropped)
        if not captured and not dropped:
            lines += ["", "nothing was captured at all; a request hands over when its response has ended"]
        return "\n".join(lines)

    def _distance(self, captured: CapturedRecord) -> tuple[bool, float, int]:
        other = self.name is not None and captured.name != self.name
        unlike = 1 - SequenceMatcher(None, self.name or "", captured.name).ratio() if other else 0.0
        return other, unlike, len(self.differences(captured))

    def __str__(self) -> str:
        return _described(self.kind, self.name, self.fields, self.properties)


def matches(expected: Any, found: Any) -> bool:
    """Whether a decoded value is what the expected one becomes when it is captured.

    An object that cannot be captured decides by its own `==`, as `unittest.mock.ANY` does.

    Example:
        >>> matches({"price": 49.9, "tags": ("a", "b")}, {"price": Decimal("49.90"), "tags": ["a", "b"]})
        True
    """
    if isinstance(expected, Mapping) and isinstance(found, dict):
        named = {_name(key): value for key, value in expected.items()}
        return named.keys() == found.keys() and all(matches(value, found[name]) for name, value in named.items())
    if isinstance(expected, list | tuple) and isinstance(found, list):
        return len(expected) == len(found) and all(map(matches, expected, found))
    unknown: list[type] = []
    encoded = encode({"value": expected}, unknown.append)
    if unknown:
        return bool(expected == (float(found) if isinstance(found, Decimal) else found))
    value = decode(encoded)["value"]
    # True is 1 for Python, and not in JSON.
    return bool(value == _exact(found)) and isinstance(value, bool) == isinstance(found, bool)


def format_records(title: str, captured: Sequence[CapturedRecord], *, skipped: bool = False) -> list[str]:
    """Return records under a title, a line each; nothing where there are none.

    Args:
        title: The first line.
        captured: The records, of which the first 20 are listed.
        skipped: Add the vendors that would skip a record.
    """
    if not captured:
        return []
    lines = ["", title, *(f"    {_line(one)}{_skipped(one) if skipped else ''}" for one in captured[:_MAX_LISTED])]
    if len(captured) > _MAX_LISTED:
        lines.append(f"    and {len(captured) - _MAX_LISTED} more")
    return lines


def _name(key: Any) -> str:
    """What a key of a mapping becomes."""
    return key if isinstance(key, str) else next(iter(decode(encode({key: None}))))


def _exact(found: Any) -> Any:
    """A goal's amount may be a float, where properties have Decimals."""
    return decode(encode({"value": found}))["value"] if isinstance(found, float) else found


def _line(captured: CapturedRecord) -> str:
    goal = {"direction": captured.direction, "amount": captured.amount} if captured.kind == "goal" else {}
    line = _described(captured.kind, captured.name, {**goal, "user_id": captured.user_id}, captured.properties)
    line = line if len(line) <= _MAX_LENGTH else f"{line[:_MAX_LENGTH]}…"
    return line if captured.dropped is None else f"{line} ({captured.dropped})"


def _skipped(captured: CapturedRecord) -> str:
    skipped = ", ".join(f"{name}: {reason}" for name, reason in captured.skipped.items())
    return f" ({skipped})" if skipped else ""


def _described(kind: str, name: str | None, fields: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    title = kind if name is None or name == kind else f"{kind} {name!r}"
    return "  ".join(
        filter(None, [title, _pairs((n, v) for n, v in fields.items() if v is not None), _braced(properties)])
    )


def _braced(properties: Mapping[str, Any]) -> str:
    return f"{{{_pairs(properties.items())}}}" if properties else ""


def _pairs(items: Iterable[tuple[str, Any]]) -> str:
    return ", ".join(f"{name}={_shown(value)}" for name, value in items)


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, Decimal) else repr(value)
