"""Reads the fields of one record, and collects their errors."""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from sessionsight.javascript import is_blank, length

__all__ = ["Fields", "amount_of", "number", "shown"]

_YEAR_9999 = 253_370_764_800.0  # where no time zone can push a time out of the calendar


class Fields:
    """Fields of one record in a request. Each method returns a value, or None after adding an error.

    Example:
        >>> fields = Fields({"event": 7})
        >>> fields.text("event", required=True), fields.errors
        (None, ['event: must be a string, not 7'])
    """

    def __init__(self, raw: Any) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []
        if isinstance(raw, dict):
            self.raw: dict[str, Any] = raw
        else:
            self.raw = {"(not an object)": raw}
            self.errors.append(f"must be an object, not {shown(raw)}")

    def text(self, name: str, *, required: bool = False, most: int | None = None) -> str | None:
        """Return a string. A null counts as missing, and so does a blank string if it is required."""
        value = self.raw.get(name)
        if value is None:
            if required:
                self.errors.append(f"{name}: is required")
            return None
        if not isinstance(value, str):
            self.errors.append(f"{name}: must be a string, not {shown(value)}")
            return None
        if required and is_blank(value):
            self.errors.append(f"{name}: must not be blank")
            return None
        if most is not None and length(value) > most:
            self.errors.append(f"{name}: must be at most {most} characters, not {length(value)}")
        return value

    def object(self, name: str) -> dict[str, Any]:
        """Return an object; an empty one if the field is missing."""
        value = self.raw.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.errors.append(f"{name}: must be an object, not {shown(value)}")
            return {}
        return value

    def texts(self, name: str) -> dict[str, Any]:
        """Return an object of strings; any other value in it is an error."""
        value = self.object(name)
        for key, item in value.items():
            if not isinstance(item, str):
                self.errors.append(f"{name}.{key}: must be a string, not {shown(item)}")
        return value

    def time(self, name: str) -> float | None:
        """Return an ISO 8601 time as Unix seconds."""
        text = self.text(name)
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(text)
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds < _YEAR_9999:
            self.errors.append(f"{name}: must be an ISO 8601 time, not {shown(text)}")
            return None
        return seconds

    def only(self, known: Collection[str]) -> None:
        """Warn of fields that the vendor does not have."""
        self.warnings.extend(f"{name}: is not a field of the vendor" for name in self.raw if name not in known)


def number(value: Any) -> float | None:
    """A JSON number; None for anything else, infinite when it is too large."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def amount_of(properties: dict[str, Any]) -> float | None:
    """The money that an event's properties speak of, in the unit that its vendor wants."""
    amount = number(properties.get("amount"))
    return amount if amount is not None and math.isfinite(amount) else None


def shown(value: Any) -> str:
    """A value as rules quote it."""
    text = repr(value) if not isinstance(value, dict | list) else {dict: "an object", list: "a list"}[type(value)]
    return text if len(text) <= 60 else f"{text[:59]}…"
