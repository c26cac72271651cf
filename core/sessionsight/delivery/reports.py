"""What a lane tells: the log, and the user's `on_error`. Neither can do it harm."""

from __future__ import annotations

import logging
import traceback
from pathlib import PurePath

from sessionsight.callbacks import run
from sessionsight.delivery.options import DeliveryOptions, DeliveryProblem
from sessionsight.log import ThrottledLogger

__all__ = ["Reports"]


class Reports:
    """The voice of one lane."""

    def __init__(self, destination: str, options: DeliveryOptions, logger: ThrottledLogger) -> None:
        self._destination = destination
        self._on_error = options.on_error
        self._logger = logger

    def log(self, level: int, message: str, *, key: str | None = None) -> None:
        """Log a message, unless one with the same `key` was logged in the last minute."""
        name = self._destination
        self._logger.log(level, f"{name}: {message}", key=f"{name}:{key or message}")

    def problem(self, reason: str, message: str, *, records: int, status: int | None) -> None:
        """Tell `on_error`, if there is one."""
        if self._on_error is None or not records:
            return
        try:
            run(
                self._on_error,
                DeliveryProblem(
                    destination=self._destination, reason=reason, message=message, records=records, status=status
                ),
            )
        except (Exception, SystemExit) as error:
            self.log(logging.ERROR, f"on_error failed with {type(error).__name__}: {error}", key="on_error")

    def fault(self, error: BaseException) -> None:
        """Log a fault of our own by type and place, for its message might hold anything."""
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{PurePath(frame.filename).name}:{frame.lineno}"
        message = f"internal error in delivery, {type(error).__name__} at {place}; please report it"
        self.log(logging.ERROR, message)
