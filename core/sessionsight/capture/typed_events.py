"""The base class of typed events: a team's own and the standard ones.

A class is a frozen dataclass whose fields are the event's properties. An event is made where no client is known, so a
wrong one is not refused there: it keeps what is wrong with it, and `capture` deals with that as with any wrong call.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, dataclass_transform, get_type_hints
from weakref import WeakKeyDictionary

from msgspec import UNSET

from sessionsight.capture.type_checks import TypeCheck, describe_value
from sessionsight.errors import InvalidEventError, did_you_mean

__all__ = ["Event"]

_WORD_STARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(dataclasses.field,))
class Event:
    """Base class of a team's own typed events.

    A subclass names its properties as fields, with types and defaults as in a dataclass; it becomes a frozen dataclass
    whose fields are given by name. Its name on the wire is the class's in snake case, or what the class says with
    `name=`. A subclass of an event has its fields and a name of its own.

    A check of your own goes into `__post_init__`; what it raises is a problem like the others.

    Making an event never raises; `validation_errors` returns what is missing, unknown or of another type.
    `capture` raises an `InvalidEventError` for it in `strict` mode; otherwise it logs it, counts it as rejected
    and sends nothing.

    Raises:
        InvalidEventError: When the class is defined: its `name` is blank, or a field has the name of a method.

    Example:
        >>> class OrderShipped(Event):
        ...     order_id: str
        ...     parcels: int = 1
        >>> OrderShipped.event_name, OrderShipped(order_id="ord_1").properties()
        ('order_shipped', {'order_id': 'ord_1', 'parcels': 1})
        >>> class InvoicePaid(Event, name="Invoice Paid"):
        ...     number: str
        >>> InvoicePaid(number=5).validation_errors()
        ['Invoice Paid: number must be a string, not 5']
    """

    event_name: ClassVar[str]
    """The event's name on the wire."""
    _defaults: ClassVar[dict[str, Any]]
    _factories: ClassVar[dict[str, Callable[[], Any]]]

    def __init_subclass__(cls, *, name: str | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if name is not None:
            cls.event_name = name
        elif "event_name" not in vars(cls):
            cls.event_name = cls._default_name()
        given: object = cls.event_name
        if not isinstance(given, str) or not given.strip():
            raise InvalidEventError(f"{cls.__qualname__}: name must be a string that is not blank")
        dataclasses.dataclass(frozen=True, kw_only=True, init=False)(cls)
        fields = dataclasses.fields(cls)  # type: ignore[arg-type]  # it is a dataclass now
        missing = dataclasses.MISSING
        cls._defaults = {field.name: UNSET if field.default is missing else field.default for field in fields}
        cls._factories = {field.name: field.default_factory for field in fields if field.default_factory is not missing}
        if reserved := _RESERVED.intersection(cls._defaults):
            raise InvalidEventError(f"{cls.__qualname__}: a field may not be named {min(reserved)!r}")

    def __init__(self, /, *positional: object, **values: Any) -> None:
        attributes = vars(self)  # the instance is frozen
        attributes.update(self._defaults)
        wrong = ["fields are given by name"] if positional else []
        unknown = {name: values.pop(name) for name in list(values) if name not in attributes}
        wrong += [f"unknown field {name!r}; {did_you_mean(name, attributes)}" for name in unknown]
        attributes.update(values)
        try:
            for name, make in self._factories.items():
                if name not in values:
                    attributes[name] = make()
            if not wrong and (check := getattr(self, "__post_init__", None)) is not None:
                check()
        except Exception as error:  # raised by code of the class itself
            wrong.append(f"{type(error).__name__}: {error}")
        attributes["_unknown"], attributes["_wrong"] = unknown, wrong

    @classmethod
    def _default_name(cls) -> str:
        return _WORD_STARTS.sub("_", cls.__name__).strip("_").lower()

    def properties(self) -> dict[str, Any]:
        """Return the properties by their names on the wire. A field without a value is left out, None is kept."""
        return {name: value for name in _fields(type(self)) if (value := getattr(self, name)) is not UNSET}

    def validation_errors(self) -> list[str]:
        """Return what is wrong with the event, as sentences: fields that are missing, unknown or of another type.

        Example:
            >>> class SeatAdded(Event):
            ...     seats: int
            >>> SeatAdded(seat=5).validation_errors()
            ["seat_added: unknown field 'seat'; did you mean 'seats'?", 'seat_added: seats is missing']
        """
        return [f"{self.event_name}: {problem}" for problem in [*vars(self)["_wrong"], *self._field_errors()]]

    def _field_errors(self) -> list[str]:
        found: list[str] = []
        for name, check in _fields(type(self)).items():
            value = getattr(self, name)
            if value is self._defaults[name] and value is not UNSET:
                continue  # a default is always valid
            if (expected := check(value)) is not None:
                missing = value is UNSET or value is None
                wrong = "is missing" if missing else f"must be {expected}, not {describe_value(value)}"
                found.append(f"{name} {wrong}")
        return found


_RESERVED = {*(name for name in vars(Event) if not name.startswith("__")), *Event.__annotations__, "_unknown", "_wrong"}


_checks: WeakKeyDictionary[type, dict[str, TypeCheck]] = WeakKeyDictionary()


def _fields(event: type) -> dict[str, TypeCheck]:
    """Return the fields that are properties with their type checks, which accept anything if a type cannot be read."""
    if (known := _checks.get(event)) is not None:
        return known
    hints = _type_hints(event)
    names = [field.name for field in dataclasses.fields(event) if not field.name.startswith("_")]
    _checks[event] = found = {name: TypeCheck(hints.get(name, Any)) for name in names}
    return found


if sys.version_info >= (3, 14):
    # Annotations are evaluated when they are read, which fails for all if it fails for one.
    from annotationlib import Format, get_annotations

    _own_annotations = partial(get_annotations, format=Format.FORWARDREF)
else:

    def _own_annotations(base: type) -> dict[str, Any]:
        """Return the annotations of the class itself."""
        return dict(vars(base).get("__annotations__", {}))


def _type_hints(event: type) -> dict[str, Any]:
    """Return the types of the fields, except for unreadable ones, such as names that only type checkers import."""
    with suppress(Exception):
        return get_type_hints(event)
    hints: dict[str, Any] = {}
    for base in reversed(event.__mro__):
        for name, hint in _own_annotations(base).items():
            hints[name] = Any  # and not the type of a field of this name in another base
            with suppress(Exception):
                alone = type(base.__name__, (), {"__module__": base.__module__, "__annotations__": {name: hint}})
                hints[name] = get_type_hints(alone)[name]
    return hints
