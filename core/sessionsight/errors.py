"""Everything that sessionsight raises, on one page.

SessionSightError
├── ConfigurationError (ValueError)          a setting is missing, unknown or wrong
│   └── MissingDependencyError (ImportError) an optional package is not installed
├── CaptureError (ValueError)                a wrong call: nothing was captured
│   ├── InvalidEventError                    a name, an id or a typed event is wrong
│   ├── InvalidGoalError                     a goal id, an amount or a session id is wrong
│   └── InvalidPropertiesError               properties that cannot become JSON
└── NoClientError (RuntimeError)             no client has been set up in this process

Only configuration errors are raised in production. The others are raised while `strict` is on
(development and tests); otherwise they are logged with the caller's line and counted.
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
    """A setting is missing, unknown, or has a value that cannot work."""

    @classmethod
    def unknown(cls, name: str, known: Iterable[str], *, where: str) -> ConfigurationError:
        """The error for a name that does not exist, with the nearest one that does."""
        return cls(f"{where}: unknown option {describe(name)}; {did_you_mean(name, known)}")


class MissingDependencyError(ConfigurationError, ImportError):
    """A chosen feature needs a package that is not installed."""


class CaptureError(SessionSightError, ValueError):
    """A call was wrong, and nothing was captured."""


class InvalidEventError(CaptureError):
    """An event's name, an id or a typed event's field is wrong."""


class InvalidGoalError(CaptureError):
    """A goal's id, amount or session id is wrong."""


class InvalidPropertiesError(CaptureError):
    """Properties cannot be written as JSON, or are too large."""


class NoClientError(SessionSightError, RuntimeError):
    """Analytics were asked for, but no client exists in this process."""


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known one that is meant, or all of them.

    Example:
        >>> did_you_mean("signl", ["saytics", "signal"])
        "did you mean 'signal'?"
    """
    names = sorted(known)
    from difflib import get_close_matches  # slow to import, and only mistakes need it

    close = get_close_matches(name, names, n=1, cutoff=0.5) if isinstance(name, str) else []
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names) or 'none'}"


def describe(value: object) -> str:
    """A wrong value as an error shows it: short text and numbers as they are, of anything else its type.

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
    r"""Text from outside as one line of a log or a terminal, which it cannot write over.

    Example:
        >>> print(escape_control_characters("no such\nkey"))
        no such\nkey
    """
    if text.isprintable():
        return text
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in text)


_MAX_SHOWN = 60
