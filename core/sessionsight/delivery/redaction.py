"""Keys are taken out of what vendors and networks say, and out of addresses, before that is logged, counted or kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from msgspec.structs import replace

from sessionsight.destinations.base import Destination, Verdict, resolve_secret
from sessionsight.request.urls import sanitize_url

__all__ = ["discreet", "discreet_url"]

# A shorter one is a placeholder, and perhaps a word.
_SHORTEST_KEY = 8


def discreet(verdict: Verdict, destination: Destination) -> Verdict:
    """The same verdict, with the destination's keys struck out of its words: an error may repeat what was sent.

    Example:
        >>> from sessionsight.destinations import Saytics
        >>> from sessionsight.destinations.base import Action
        >>> verdict = Verdict(action=Action.PAUSE, message="unknown key sk_live_1")
        >>> discreet(verdict, Saytics(secret_key="sk_live_1")).message
        'unknown key ***'
    """
    if not verdict.message and not verdict.rejected:
        return verdict
    keys = tuple(_keys(destination))
    return replace(
        verdict,
        message=_without(keys, verdict.message),
        rejected={at: _without(keys, words) for at, words in verdict.rejected.items()},
    )


def discreet_url(url: str, destination: Destination) -> str:
    """An address as a log may show it: without its query, and with the destination's keys struck out.

    Example:
        >>> from sessionsight.destinations import Saytics
        >>> discreet_url("https://example.com/sk_live_1?page=2", Saytics(secret_key="sk_live_1"))
        'https://example.com/***'
    """
    return _without(tuple(_keys(destination)), sanitize_url(url))


def _keys(destination: Destination) -> Iterator[str]:
    for name in getattr(destination, "secrets", ()):
        with suppress(Exception, SystemExit):  # a key that cannot be had was not sent
            key = resolve_secret(getattr(destination, name))
            if len(key) >= _SHORTEST_KEY:
                yield key


def _without(keys: tuple[str, ...], words: str) -> str:
    for key in keys:
        words = words.replace(key, "***")
    return words
