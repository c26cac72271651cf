"""Checks values against type annotations, as far as typed events need it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, is_typeddict

from msgspec import UNSET, UnsetType

from sessionsight.capture.scalars import to_python

__all__ = ["TypeCheck", "describe_value", "is_finite"]

_NUMBERS: dict[type, tuple[type, ...]] = {int: (int,), float: (int, float), Decimal: (int, Decimal)}
_TYPE_NAMES = {str: "a string", bool: "True or False", int: "an integer", float: "a number"}


class TypeCheck:
    """Checks values against one annotation.

    A value is checked as it is sent: an Enum as its value, numpy's numbers as Python's. NaN and infinities are not
    numbers; an int is a number and a Decimal. Annotations that cannot be checked accept anything.

    Example:
        >>> TypeCheck(int)("14"), TypeCheck(int | None)(14)
        ('an integer', None)
    """

    __slots__ = ("_choices", "_hint", "_types")

    def __init__(self, hint: Any) -> None:
        self._hint = hint
        # A fast check, because almost every value is of one of these types.
        self._types = frozenset(_exact_types(hint))
        self._choices = frozenset(choice for choice in _choices(hint) if type(choice) is str)

    def __call__(self, value: Any) -> str | None:
        """Return what the annotation wants, when the value is something else."""
        kind = type(value)
        if (kind in self._types and is_finite(value)) or (kind is str and value in self._choices):
            return None
        return None if _fits(value, self._hint) else _described(self._hint)


def _members(hint: Any) -> tuple[Any, ...]:
    hint = _resolved(hint)
    return get_args(hint) if get_origin(hint) in {Union, UnionType} else (hint,)


def _exact_types(hint: Any) -> Iterator[type]:
    for member in map(_resolved, _members(hint)):
        if member is None:
            yield NoneType
        elif member in _NUMBERS:
            yield from _NUMBERS[member]
        elif isinstance(member, type) and get_origin(member) is None and member is not object:
            yield member


def _choices(hint: Any) -> Iterator[Any]:
    for member in _members(hint):
        if get_origin(member) is Literal:
            yield from get_args(member)


def is_finite(value: object) -> bool:
    """Return whether a value is neither NaN nor infinite."""
    return value.is_finite() if isinstance(value, Decimal) else not isinstance(value, float) or math.isfinite(value)


def describe_value(value: object) -> str:
    """Return a wrong value as an error shows it."""
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"


def _fits(value: Any, hint: Any) -> bool:
    if _fits_as_given(value, hint):
        return True
    plain = to_python(value)
    return plain is not UNSET and plain is not value and _fits_as_given(plain, hint)


def _fits_as_given(value: Any, hint: Any) -> bool:
    hint = _resolved(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Union or origin is UnionType:
        return any(_fits(value, member) for member in arguments)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if isinstance(hint, type) and origin is None:
        return _is_instance(value, hint)
    if hint is None:
        return value is None
    if not isinstance(origin, type):
        return value is not UNSET  # Any, and annotations that this module does not support
    if not isinstance(value, origin):
        return False
    if isinstance(value, Mapping) and len(arguments) == 2:
        return all(_fits(key, arguments[0]) and _fits(item, arguments[1]) for key, item in value.items())
    if isinstance(value, tuple) and arguments[1:] != (...,):
        return len(value) == len(arguments) and all(map(_fits, value, arguments))
    return not isinstance(value, Collection) or all(_fits(item, arguments[0]) for item in value)


def _resolved(hint: Any) -> Any:
    """Return the type behind a NewType, or behind an alias by the `type` statement."""
    while (aliased := getattr(hint, "__supertype__", None) or getattr(hint, "__value__", None)) is not None:
        hint = aliased
    return hint


def _is_instance(value: Any, kind: type) -> bool:
    if value is UNSET:
        return kind is UnsetType
    if isinstance(value, bool):
        return kind is bool or kind is object
    if kind in _NUMBERS:
        return isinstance(value, _NUMBERS[kind]) and is_finite(value)
    if is_typeddict(kind):
        return isinstance(value, Mapping)
    try:
        return isinstance(value, kind)
    except TypeError:
        return True  # a protocol


def _described(hint: Any) -> str:
    members = tuple(member for member in _members(hint) if member not in {None, NoneType, UnsetType})
    if float in members:
        members = tuple(member for member in members if member not in {int, Decimal})
    if date in members:
        members = tuple(member for member in members if member not in {datetime, str})
    return " or ".join(map(_word, members))


def _word(hint: Any) -> str:
    hint = _resolved(hint)
    if get_origin(hint) is Literal:
        choices = list(map(str, get_args(hint)))
        return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    if (origin := get_origin(hint)) in {Mapping, dict} and get_args(hint)[0] is str:
        return "a mapping of names to values"
    if not isinstance(hint, type) or origin is not None:
        return str(hint).replace("typing.", "")
    if issubclass(hint, Enum):
        return f"a member of {hint.__name__}"
    article = "an" if hint.__name__[0] in "AEIOUaeiou" else "a"
    return _TYPE_NAMES.get(hint, f"{article} {hint.__name__}")
