"""Validates the arguments of capturing calls, and converts them to plain types."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, tzinfo
from typing import Any, TypedDict, TypeVar
from uuid import UUID

from msgspec import UNSET

from sessionsight.capture.scalars import to_python
from sessionsight.capture.transactions import is_session
from sessionsight.errors import CaptureError, InvalidEventError, InvalidPropertiesError, describe, did_you_mean
from sessionsight.request.context import (
    EMPTY_CONTEXT,
    MAX_ID,
    NO_PAGE,
    NO_SESSIONSIGHT,
    NO_SIGNAL,
    OPTED_OUT,
    Page,
    SessionSightIds,
    SignalIds,
    TrackingContext,
    valid_id,
    valid_session_id,
)

__all__ = [
    "CallOptions",
    "CommitOptions",
    "RecordOptions",
    "merge_properties",
    "plain_str",
    "record_fields",
    "to_timestamp",
    "validate_anonymous_id",
    "validate_commit_options",
    "validate_context",
    "validate_destinations",
    "validate_event_name",
    "validate_group",
    "validate_groups",
    "validate_id",
    "validate_key",
    "validate_text",
]

_Part = TypeVar("_Part", SessionSightIds, SignalIds, Page)
_Check = Callable[[object, str], str | None]

_MAX_DIGITS = 100
# The first and the last second that RFC 3339 can write: years have four digits there, and none is below 1 in Python.
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800.0, 253_402_300_799.0


class CommitOptions(TypedDict, total=False):
    """Options for database transactions, with Django and with SQLAlchemy."""

    on_commit: bool | None
    """False: the record is sent even if the transaction is rolled back. By default it is then dropped."""
    using: object
    """The record waits for the transaction of this: with Django the alias of a database, `"default"` by default; with
    SQLAlchemy a session, by default the one used last."""
    in_transaction: bool | None
    """True: the record must be written by the open transaction, which needs `spool="django"`, or `"sqlalchemy:<URL>"`
    and a session that is bound with `outbox=True`. Where there is none, the call is wrong: it raises in strict mode,
    and is otherwise logged and captured."""


class RecordOptions(CommitOptions, total=False):
    """The keyword arguments of `identify`."""

    distinct_id: object
    """Signal's id for the person, in place of the user id."""
    anonymous_id: object
    """An anonymous id for Saytics and Analyse.net, in place of the request's."""
    timestamp: datetime | None
    """When it happened; now by default. A naive datetime is in the time zone of the `time_zone` setting, which is UTC
    by default, and Django's `TIME_ZONE` if `USE_TZ` is False."""
    key: str | None
    """An idempotency key: a second call of this kind, name and key is not delivered."""
    destinations: Iterable[str] | None
    """Names of the destinations that the record is sent to; all by default."""


class CallOptions(RecordOptions, total=False):
    """The keyword arguments of every other capturing call."""

    user_id: object
    """The app's own user id: a string, an integer (numpy's as well) or a UUID. Overrides any other
    source of the user."""


_COMMIT = CommitOptions.__optional_keys__


def validate_id(value: object, name: str) -> str | None:
    """Return an id given by the app as a string; None for None, the empty string and a missing value, such as NaN.

    Raises:
        InvalidEventError: Anything but a fitting string, an integer or a UUID, or what another library has for those:
            numpy's integers, MongoDB's `ObjectId`.
    """
    if value is None:
        return None
    if isinstance(value, str):
        if not value:
            return None
        if valid_id(value):
            return plain_str(value)
    elif isinstance(value, int):
        if not isinstance(value, bool) and abs(value) < 10**_MAX_DIGITS:
            return str(int(value))
    elif isinstance(value, UUID):
        return str(value)
    else:
        plain = to_python(value)
        if plain is None or (isinstance(plain, float) and math.isnan(plain)):
            return None
        if isinstance(plain, str | int | UUID):
            return validate_id(plain, name)
    given = f"{len(value)} characters" if isinstance(value, str) else type(value).__name__
    raise InvalidEventError(
        f"{name} must be a string of at most {MAX_ID} printable characters, an integer or a UUID, not {given}"
    )


def validate_anonymous_id(value: object) -> str | None:
    """Return an anonymous id as `validate_id` does; an empty one is kept, because Analyse.net rejects it."""
    return "" if isinstance(value, str) and not value else validate_id(value, "anonymous_id")


def plain_str(text: str) -> str:
    """Return a string as a plain `str`; it may be an Enum, a lazy or a safe string."""
    return text if type(text) is str else str.__str__(text)


def validate_text(value: object, name: str) -> str:
    """Return a string that is not blank, or raise `InvalidEventError`."""
    if isinstance(value, str) and value.strip():
        return plain_str(value)
    raise InvalidEventError(f"{name} must be a string that is not blank, not {describe(value)}")


def validate_key(key: object) -> str | None:
    """Return an idempotency key or None, or raise `InvalidEventError`."""
    return None if key is None else validate_text(key, "key")


def merge_properties(base: Mapping[str, Any], properties: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return `base` updated with the properties."""
    if properties is None:
        return base
    given: object = properties
    if not isinstance(given, Mapping):
        raise InvalidPropertiesError(f"properties must be a mapping of names to values, not {describe(given)}")
    return {**base, **given}


def to_timestamp(timestamp: object, time_zone: tzinfo | None = None) -> float | None:
    """Return a datetime as Unix seconds; None for one that is missing, such as pandas' NaT.

    Args:
        timestamp: A datetime, or a scalar of numpy or pandas that is one.
        time_zone: The zone of a datetime that names none; UTC by default.

    Raises:
        InvalidEventError: Anything else, and a time that cannot be written in UTC, such as `datetime.max`.
    """
    plain = to_python(timestamp)
    if plain is None:
        return None
    moment = timestamp if plain is UNSET else plain
    if not isinstance(moment, datetime):
        raise InvalidEventError(f"timestamp must be a datetime, not {type(timestamp).__name__}")
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=time_zone or UTC)).timestamp()
    if not _FIRST_SECOND <= seconds <= _LAST_SECOND:  # nor NaN
        raise InvalidEventError(f"timestamp must be in the years 1 to 9999 of UTC, not {timestamp}")
    return seconds


def validate_groups(groups: object) -> dict[str, str]:
    """Return group types with their keys, or raise `InvalidEventError`."""
    if not isinstance(groups, Mapping):
        raise InvalidEventError(f"groups must be a mapping of group types to group keys, not {describe(groups)}")
    return dict(validate_group(kind, key) for kind, key in groups.items())


def validate_group(kind: object, key: object) -> tuple[str, str]:
    """Return a group's type and key, or raise `InvalidEventError`."""
    group_type = validate_text(kind, "a group's type")
    group_key = validate_id(key, f"the key of group {group_type!r}")
    if group_key is None:
        raise InvalidEventError(f"group {group_type!r} needs a key")
    return group_type, group_key


def validate_event_name(event: object) -> str:
    """Return an event name that is not blank, or raise `InvalidEventError`, with a hint if it is an event class."""
    if isinstance(event, type):
        hint = f"{event.__name__} is a class; make an event of it: {event.__name__}(...)"
        raise InvalidEventError(f"an event must be a name or a typed event, and {hint}")
    return validate_text(event, "an event's name")


def validate_context(context: object, warn_or_raise: Callable[[CaptureError], None]) -> TrackingContext:
    """Return a context with its valid parts, because one that was made by hand may contain anything.

    Args:
        context: As `client.bind` is given it.
        warn_or_raise: Told of each thing in it that is wrong, which counts as missing.
    """
    if not isinstance(context, TrackingContext):
        hint = "; TrackingContext.from_carrier() reads a carrier" if isinstance(context, Mapping) else ""
        warn_or_raise(InvalidEventError(f"context must be a TrackingContext, not {describe(context)}{hint}"))
        with suppress(Exception):  # it may be a carrier, whose refusal must not become consent
            if TrackingContext.from_carrier(context).opted_out:  # type: ignore[arg-type]
                return OPTED_OUT
        return EMPTY_CONTEXT
    if context.opted_out:
        return OPTED_OUT
    checked = TrackingContext(
        sessionsight=_validate_struct(
            context.sessionsight, NO_SESSIONSIGHT, _validate_session_id, "context.sessionsight", warn_or_raise
        ),
        signal=_validate_struct(context.signal, NO_SIGNAL, validate_id, "context.signal", warn_or_raise),
        user_id=_validate_field(context.user_id, validate_id, "context.user_id", warn_or_raise),
        anonymous_id=_validate_field(context.anonymous_id, validate_id, "context.anonymous_id", warn_or_raise),
        page=_validate_struct(context.page, NO_PAGE, _validate_text_field, "context.page", warn_or_raise),
    )
    # The same object if possible: a lane encodes the part of an envelope that depends on the context once for each.
    return context if checked == context else checked


def _validate_struct(
    given: object, empty: _Part, check: _Check, name: str, warn_or_raise: Callable[[CaptureError], None]
) -> _Part:
    if given is empty:
        return empty
    kind = type(empty)
    if not isinstance(given, kind):
        warn_or_raise(InvalidEventError(f"{name} must be {kind.__name__}(...), not {describe(given)}"))
        return empty
    fields = {field: value for field in kind.__struct_fields__ if (value := getattr(given, field)) is not None}
    return kind(
        **{field: _validate_field(value, check, f"{name}.{field}", warn_or_raise) for field, value in fields.items()}
    )


def _validate_field(
    given: object, check: _Check, name: str, warn_or_raise: Callable[[CaptureError], None]
) -> str | None:
    try:
        return check(given, name)
    except CaptureError as error:
        warn_or_raise(error)
        return None


def _validate_session_id(value: object, name: str) -> str | None:
    """Validate an id that is sent to SessionSight."""
    given = validate_id(value, name)
    if given is not None and not valid_session_id(given):
        raise InvalidEventError(f"{name} must be at most 128 letters, digits and hyphens, not {describe(given)}")
    return given


def _validate_text_field(value: object, name: str) -> str | None:
    """Validate a field of a page."""
    if isinstance(value, str):
        return plain_str(value)
    raise InvalidEventError(f"{name} must be a string, not {describe(value)}")


def validate_destinations(names: object, known: frozenset[str]) -> frozenset[str] | None:
    """Return names of destinations, None for all, or raise `InvalidEventError` for an unknown name."""
    if names is None:
        return None
    if not isinstance(names, Iterable):
        raise InvalidEventError(f"destinations must be names of destinations, not {describe(names)}")
    named = [names] if isinstance(names, str) else list(names)
    for name in named:
        if not isinstance(name, str) or name not in known:
            raise InvalidEventError(f"unknown destination {describe(name)}; {did_you_mean(name, known)}")
    return frozenset(map(plain_str, named))


def validate_commit_options(options: Mapping[str, Any]) -> None:
    """Check what `CommitOptions` has. Raises `InvalidEventError`."""
    on_commit, using = options.get("on_commit"), options.get("using")
    if not isinstance(on_commit, bool | None):
        raise InvalidEventError(f"on_commit must be True or False, not {describe(on_commit)}")
    in_transaction = options.get("in_transaction")
    if not isinstance(in_transaction, bool | None):
        raise InvalidEventError(f"in_transaction must be True or False, not {describe(in_transaction)}")
    if in_transaction and on_commit is False:
        raise InvalidEventError("in_transaction=True and on_commit=False exclude each other")
    if not isinstance(using, str | None) and not is_session(using):
        raise InvalidEventError(
            f"using must be the alias of a database or a session of SQLAlchemy, not {describe(using)}"
        )


def record_fields(
    options: Mapping[str, Any], destinations: frozenset[str], time_zone: tzinfo | None = None
) -> dict[str, Any]:
    """Return the fields of a record that a call's options set.

    Args:
        options: As in `CallOptions`.
        destinations: The known names.
        time_zone: The zone of a timestamp that names none; UTC by default.

    Raises:
        InvalidEventError: An option that is wrong.
    """
    validate_commit_options(options)
    fields: dict[str, Any] = {}
    for name, value in options.items():
        if value is None or name in _COMMIT:
            continue
        if name == "timestamp":
            if (seconds := to_timestamp(value, time_zone)) is not None:
                fields["time"] = seconds
        elif name == "key":
            fields[name] = validate_key(value)
        elif name == "destinations":
            fields[name] = validate_destinations(value, destinations)
        elif name == "anonymous_id":
            fields[name] = validate_anonymous_id(value)
        elif (given := validate_id(value, name)) is not None:
            fields[name] = given
    return fields
