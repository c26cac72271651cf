"""The `sessionsight` logger, and a logger that logs each kind of message once a minute.

Nothing is logged on a request's path in a forked process: another thread may have held a handler's lock at the fork,
and the lock would then never be released. Such messages are buffered until the dispatcher thread logs them.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
import traceback
from collections import deque
from pathlib import PurePath

from sessionsight.clock import Clock
from sessionsight.errors import escape_control_characters

__all__ = ["LaneLogger", "ThrottledLogger", "caller_location", "logger"]

logger = logging.getLogger("sessionsight")

_INTERVAL = 60.0
_MAX_KEYS = 1000
_MAX_BUFFERED = 100
_OWN_PACKAGES = frozenset({"sessionsight", "sessionsight_asgi", "sessionsight_django", "sessionsight_flask"})


class ThrottledLogger:
    """Logs a message at most once a minute for each key, and counts repetitions.

    Args:
        buffered: Keep messages until `flush_buffered` is called.
        clock: Measures the minute.
    """

    def __init__(self, *, buffered: bool = False, clock: Clock = time) -> None:
        self._clock = clock
        self._buffered = buffered
        self._buffer: deque[tuple[int, str]] = deque(maxlen=_MAX_BUFFERED)
        self._last: dict[str, tuple[float, int]] = {}

    def log(self, level: int, message: str, *, key: str | None = None) -> None:
        """Log a message, unless one with the same key, by default the message itself, was logged in the last minute."""
        key = message if key is None else key
        now = self._clock.monotonic()
        last, suppressed = self._last.get(key, (float("-inf"), 0))
        if now - last < _INTERVAL:
            self._last[key] = (last, suppressed + 1)
            return
        if len(self._last) >= _MAX_KEYS:
            self._last.clear()
        self._last[key] = (now, 0)
        if suppressed:
            message = f"{message} (and {suppressed} more like this)"
        if self._buffered:
            self._buffer.append((level, message))
        else:
            _emit(level, message)

    def flush_buffered(self) -> None:
        """Log the buffered messages, and buffer none from now on. Not to be called on a request's path."""
        self._buffered = False
        while self._buffer:
            _emit(*self._buffer.popleft())


class LaneLogger:
    """Logs the problems of one lane, under its name."""

    def __init__(self, lane: str, logger: ThrottledLogger) -> None:
        self._lane = lane
        self._logger = logger
        self.flush_buffered = logger.flush_buffered

    def log(self, level: int, message: str, *, key: str | None = None) -> None:
        """Log a message, unless the lane has logged one with the same key in the last minute."""
        self._logger.log(level, f"{self._lane}: {message}", key=f"{self._lane}:{key or message}")

    def internal_error(self, error: BaseException) -> None:
        """Log a bug by its type and place only, because its message may contain anything."""
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{PurePath(frame.filename).name}:{frame.lineno}"
        self.log(logging.ERROR, f"internal error in delivery, {type(error).__name__} at {place}; please report it")


def _emit(level: int, message: str) -> None:
    """Log one line, whatever text of a foreign exception it contains. Exceptions of handlers are suppressed."""
    with contextlib.suppress(Exception):
        logger.log(level, "%s", escape_control_characters(message))


def caller_location() -> str:
    """Return `file:line` of the code that called into our packages, for messages about an invalid call."""
    frame = sys._getframe(1)
    while frame.f_globals.get("__name__", "").partition(".")[0] in _OWN_PACKAGES and frame.f_back is not None:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
