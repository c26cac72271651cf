"""The exceptions of sessionsight, and helpers for their messages.

SessionSightError
├── ConfigurationError (ValueError)          a setting is missing, unknown or invalid
│   └── MissingDependencyError (ImportError) an optional package is not installed
├── CaptureError (ValueError)                an invalid call: nothing was captured
│   ├── InvalidEventError                    a name, an id or a typed event is invalid
│   ├── InvalidGoalError                     a goal id, an amount or a session id is invalid
│   └── InvalidPropertiesError               properties that cannot be converted to JSON
└── NoClientError (RuntimeError)             no client has been set up in this process

Only configuration errors are raised in production. The others are raised in strict mode (development and tests);
otherwise they are logged with the caller's line and counted.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "CaptureError",
    "ConfigurationError",
    "InvalidEventError",
    "InvalidGoalError",
    "InvalidPropertiesError",
    "MissingDependencyError",
    "NoClientError",
    "SessionSightError",
]


class SessionSightError(Exception):
    """Base of every exception that this package raises."""


class ConfigurationError(SessionSightError, ValueError):
    """A setting is missing or unknown, or has an invalid value."""

    @classmethod
    def unknown(cls, name: str, known: Iterable[str], *, where: str) -> ConfigurationError:
        """Return the error for an unknown name, with the closest known one."""
        return cls(f"{where}: unknown option {describe(name)}; {did_you_mean(name, known)}")


class MissingDependencyError(ConfigurationError, ImportError):
    """A selected feature needs a package that is not installed."""


class CaptureError(SessionSightError, ValueError):
    """A call was invalid, and nothing was captured."""


class InvalidEventError(CaptureError):
    """An event's name, an id or a typed event's field is invalid."""


class InvalidGoalError(CaptureError):
    """A goal's id, amount or session id is invalid."""


class InvalidPropertiesError(CaptureError):
    """Properties cannot be encoded as JSON, or are too large."""


class NoClientError(SessionSightError, RuntimeError):
    """Analytics were requested, but this process has no client."""


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the closest known name, or all of them.

    Example:
        >>> did_you_mean("signl", ["saytics", "signal"])
        "did you mean 'signal'?"
    """
    names = sorted(known)
    from difflib import get_close_matches  # slow to import, and only needed for mistakes

    close = get_close_matches(name, names, n=1, cutoff=0.5) if isinstance(name, str) else []
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names) or 'none'}"


def describe(value: object) -> str:
    """Describe an invalid value in an error: short text and numbers as they are, anything else by its type.

    Example:
        >>> describe(""), describe(-1), describe({"api_key": "secret"})
        ("''", '-1', 'a dict')
    """
    if value is None or type(value) in {bool, float} or (type(value) is int and -(10**20) < value < 10**20):
        return repr(value)
    if type(value) is str and len(value) <= _MAX_SHOWN:
        return repr(value)
    return f"a {type(value).__name__}"


def escape_control_characters(text: str) -> str:
    r"""Escape control characters, so that foreign text is one line and cannot control a terminal.

    Example:
        >>> print(escape_control_characters("no such\nkey"))
        no such\nkey
    """
    if text.isprintable():
        return text
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in text)


_MAX_SHOWN = 60
