"""Random bytes for the ids of records, drawn from the operating system in stock.

Each call for random bytes gives up the interpreter for a moment, and whoever waits for it, such as a
lane, may keep it for milliseconds, which the request would wait. Drawn in stock, that is once in
hundreds of captures.
"""

from __future__ import annotations

import os

__all__ = ["SIZE", "entropy"]

SIZE = 10
"""Bytes that one record takes."""

_PORTIONS = 400

_stock: list[bytes] = []
_owner = os.getpid()


def entropy() -> bytes:
    """Ten random bytes that nobody else has or will get, in this process or in one forked from it."""
    global _stock, _owner
    if (pid := os.getpid()) != _owner:
        # Compared rather than hooked: a fork by C code calls no hook, and both would use the same bytes.
        _stock, _owner = [], pid
    try:
        return _stock.pop()
    except IndexError:
        drawn = os.urandom(SIZE * _PORTIONS)
        first, *rest = (drawn[at : at + SIZE] for at in range(0, len(drawn), SIZE))
        _stock.extend(rest)
        return first
