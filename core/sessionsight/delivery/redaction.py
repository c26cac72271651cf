"""Redacts API keys from vendor messages and URLs before they are logged or stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from msgspec.structs import replace

from sessionsight.destinations.base import Destination, Verdict, resolve_secret
from sessionsight.request.urls import sanitize_url

__all__ = ["redact_secrets", "redact_text", "redact_url"]

# A shorter one is a placeholder, and may be an ordinary word.
_MIN_KEY_LENGTH = 8


def redact_secrets(verdict: Verdict, destination: Destination) -> Verdict:
    """Return the verdict with the destination's keys redacted: an error message may repeat what was sent.

    Example:
        >>> from sessionsight.destinations import Saytics
        >>> from sessionsight.destinations.base import Action
        >>> verdict = Verdict(action=Action.PAUSE, message="unknown key sk_live_1")
        >>> redact_secrets(verdict, Saytics(secret_key="sk_live_1")).message
        'unknown key ***'
    """
    if not verdict.message and not verdict.rejected:
        return verdict
    keys = tuple(_keys(destination))
    return replace(
        verdict,
        message=_replace(keys, verdict.message),
        rejected={at: _replace(keys, text) for at, text in verdict.rejected.items()},
    )


def redact_text(text: str, destination: Destination) -> str:
    """Return text with the destination's keys redacted."""
    return _replace(tuple(_keys(destination)), text)


def redact_url(url: str, destination: Destination) -> str:
    """Return a URL without its query and with the destination's keys redacted.

    Example:
        >>> from sessionsight.destinations import Saytics
        >>> redact_url("https://example.com/sk_live_1?page=2", Saytics(secret_key="sk_live_1"))
        'https://example.com/***'
    """
    return redact_text(sanitize_url(url), destination)


def _keys(destination: Destination) -> Iterator[str]:
    for name in getattr(destination, "secrets", ()):
        with suppress(Exception, SystemExit):  # a key that cannot be read was not sent
            key = resolve_secret(getattr(destination, name))
            if len(key) >= _MIN_KEY_LENGTH:
                yield key


def _replace(keys: tuple[str, ...], text: str) -> str:
    for key in keys:
        text = text.replace(key, "***")
    return text
