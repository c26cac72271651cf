"""Feature flags that a developer sets for all visitors, as text with a flag on each line."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["FlagsError", "as_text", "read"]

_BOOLEANS = {"true": True, "false": False}


class FlagsError(ValueError):
    """A line is not a flag."""


def read(text: str) -> dict[str, bool | str]:
    r"""Return the flags in a text; `true` and `false` are booleans, any other value is a string.

    Raises:
        FlagsError: A line has no key, or no value.

    Example:
        >>> read("new-checkout = true\ncta-color = green")
        {'new-checkout': True, 'cta-color': 'green'}
    """
    flags: dict[str, bool | str] = {}
    for line in text.splitlines():
        key, equals, value = map(str.strip, line.partition("="))
        if not line.strip():
            continue
        if not (key and equals):
            raise FlagsError(f"flags: a line must be written as new-checkout = true, not {line.strip()!r}")
        flags[key] = _BOOLEANS.get(value, value)
    return flags


def as_text(flags: Mapping[str, bool | str]) -> str:
    """Return the text of flags."""
    texts = {True: "true", False: "false"}
    return "\n".join(f"{key} = {texts[value] if isinstance(value, bool) else value}" for key, value in flags.items())
