"""What the operator is told: one logger, each kind of message once a minute.

Nothing is logged on a request's path in a process that was forked: a handler's lock may have been
held by another thread at the fork, and would be held for ever. Such messages wait for a lane's
own thread.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections import deque
from types import FrameType

from sessionsight.errors import escape_control_characters

__all__ = ["Notices", "caller", "logger"]

logger = logging.getLogger("sessionsight")

_QUIET_SECONDS = 60.0
_MAX_KEYS = 1000
_MAX_WAITING = 100
_OWN_PACKAGES = frozenset({"sessionsight", "sessionsight_asgi", "sessionsight_django", "sessionsight_flask"})


class Notices:
    """Collapses repeated messages, and holds them back where logging is not safe yet."""

    def __init__(self, *, hold: bool = False) -> None:
        self._hold = hold
        self._waiting: deque[tuple[int, str]] = deque(maxlen=_MAX_WAITING)
        self._last: dict[str, tuple[float, int]] = {}

    def tell(self, level: int, message: str, *, about: str | None = None) -> None:
        """Log a message, unless one with the same `about` was logged in the last minute."""
        about = message if about is None else about
        now = time.monotonic()
        last, suppressed = self._last.get(about, (float("-inf"), 0))
        if now - last < _QUIET_SECONDS:
            self._last[about] = (last, suppressed + 1)
            return
        if len(self._last) >= _MAX_KEYS:
            self._last.clear()
        self._last[about] = (now, 0)
        if suppressed:
            message = f"{message} (and {suppressed} more like this)"
        if self._hold:
            self._waiting.append((level, message))
        else:
            _log(level, message)

    def release(self) -> None:
        """Log what was held back, and hold nothing back from now on. Called off the request's path."""
        self._hold = False
        while self._waiting:
            _log(*self._waiting.popleft())


def _log(level: int, message: str) -> None:
    """One line, whatever the text of a foreign exception holds; a handler that raises harms nobody."""
    with contextlib.suppress(Exception):
        logger.log(level, "%s", escape_control_characters(message))


def caller() -> str:
    """`file:line` of the code that called into our packages, for messages about a wrong call."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _OWN_PACKAGES:
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown"
