"""Outcomes of requests at a vendor, and their order: drawn from a seed that is printed and can be given again."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Mapping
from enum import StrEnum

SEED_VARIABLE = "SESSIONSIGHT_CHAOS_SEED"


class Fate(StrEnum):
    """Outcome of one request, or of one connection."""

    # the request is read and answered
    OK = "ok"
    LATE = "late"
    """200, delayed."""
    BUSY_SECONDS = "429, seconds"
    BUSY_DATE = "429, date"
    BUSY = "503, Retry-After"
    TIMED_OUT = "408"
    TOO_LARGE = "413"
    """413 for a batch; a single record is accepted."""
    KEY_REFUSED = "401"
    """401 for several requests in a row."""
    MOVED = "307"
    """A redirect to an address that must not receive the key."""
    BROKEN = "500"
    GATEWAY = "502"
    # the request is read and may be counted, and the response is invalid or missing
    RESET_AFTER = "reset after the body"
    HANG_UP = "closed without a word"
    SILENT = "silence"
    GARBAGE = "garbage"
    CUT_HEAD = "head cut off"
    DRIP_HEAD = "head drips"
    # it is counted, and the status line says so
    CUT_BODY = "body cut off"
    DRIP_BODY = "body drips"
    # it is not read
    RESET_BEFORE = "reset before the body"
    # connections with TLS
    TLS_STRANGER = "certificate of a stranger"
    TLS_BROKEN = "handshake breaks off"
    # name resolution
    NO_NAME = "name not found"


TLS = (Fate.TLS_STRANGER, Fate.TLS_BROKEN)
NAMES = (Fate.NO_NAME,)
REQUESTS = tuple(fate for fate in Fate if fate not in {*TLS, *NAMES})

UNREAD = (Fate.RESET_BEFORE,)
"""The request was not read, so it was certainly not counted."""
REFUSED = (
    Fate.BUSY_SECONDS, Fate.BUSY_DATE, Fate.BUSY, Fate.TIMED_OUT, Fate.TOO_LARGE, Fate.KEY_REFUSED, Fate.MOVED,
)  # fmt: skip
"""The response says that nothing was counted."""
TAKEN = (Fate.OK, Fate.LATE, Fate.CUT_BODY, Fate.DRIP_BODY)
"""The response says that everything was counted."""
DOUBTFUL = (
    Fate.BROKEN, Fate.GATEWAY, Fate.RESET_AFTER, Fate.HANG_UP, Fate.SILENT, Fate.GARBAGE, Fate.CUT_HEAD, Fate.DRIP_HEAD,
)  # fmt: skip
"""The caller cannot know whether the vendor has counted it."""

SLOW = (Fate.SILENT, Fate.DRIP_HEAD, Fate.DRIP_BODY)
"""Fates that last until the caller's timeout."""


def evenly(*fates: Fate, ok: float, slow: float = 1.0) -> dict[Fate, float]:
    """Return weights for a schedule: this share of the requests succeeds, the rest is divided evenly among the fates.

    Args:
        *fates: What else may happen.
        ok: The part that goes well, from 0 to 1.
        slow: How often a slow fate falls, measured by another.
    """
    weights = {fate: slow if fate in SLOW else 1.0 for fate in fates}
    total = sum(weights.values())
    return {Fate.OK: ok, **{fate: (1 - ok) * weight / total for fate, weight in weights.items()}}


class Schedule:
    """The fates of one vendor's requests, in the order of their arrival.

    The same seed and name give the same fates. Which records meet which fate depends on the threads of
    the run as well.

    Args:
        seed: The run's seed.
        name: Whose schedule it is.
        weights: Fate to how often it comes; calm weather by default.
    """

    SPELL = (2, 6)
    """The number of consecutive requests with a rejected key."""

    def __init__(self, seed: int, name: str, weights: Mapping[Fate, float] | None = None) -> None:
        self._chance = random.Random(f"{seed}:{name}")
        self._weights = dict(weights or {Fate.OK: 1.0})
        self._spell = 0

    def calm(self) -> None:
        """Let all requests succeed from now on."""
        self._weights = {Fate.OK: 1.0}
        self._spell = 0

    def draw(self) -> Fate:
        """Return the next fate."""
        if self._spell:
            self._spell -= 1
            return Fate.KEY_REFUSED
        [fate] = self._chance.choices(list(self._weights), list(self._weights.values()))
        if fate is Fate.KEY_REFUSED:
            self._spell = self._chance.randint(*self.SPELL) - 1
        return fate

    def coin(self) -> bool:
        """Return a random truth value."""
        return self._chance.random() < 0.5

    def number(self, lowest: float, highest: float) -> float:
        """Return a random number between the two."""
        return self._chance.uniform(lowest, highest)


def chosen_seed() -> int:
    """Return the seed of `SESSIONSIGHT_CHAOS_SEED`, or a new one."""
    given = os.environ.get(SEED_VARIABLE, "").strip()
    return int(given) if given else secrets.randbits(32)
