"""The outcomes of claimed records that are not in the store yet."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from sessionsight.delivery.stores.base import Failure, Outcome, Store
from sessionsight.delivery.stores.errors import StoreError
from sessionsight.log import ThrottledLogger

__all__ = ["PendingOutcomes"]


class PendingOutcomes:
    """Outcomes of one lane, in their order. Its queue holds a lock during each call."""

    def __init__(self, lane: str, store: Store, logger: ThrottledLogger) -> None:
        self._lane = lane
        self._store = store
        self._logger = logger
        self._outcomes: list[Outcome] = []

    def add(self, *outcomes: Outcome) -> None:
        """Add outcomes, to be written later."""
        self._outcomes += outcomes

    def add_unreadable(self, unreadable: Mapping[int, str]) -> None:
        """Add dead letters for the handles of records that cannot be decoded, with the error."""
        for handle, message in unreadable.items():
            self._logger.log(
                logging.ERROR, f"{self._lane}: a record in the spool cannot be read ({message})", key="unreadable"
            )
            failure = Failure(reason="internal_error", message=f"cannot be read: {message}")
            self.add(Outcome(handles=[handle], failure=failure))

    def write(self, *, timeout: float) -> None:
        """Write all outcomes.

        Raises:
            StoreError: All are kept, and those that were written are written again without an effect.
        """
        if not self._outcomes:
            return
        outcomes, self._outcomes = self._outcomes, []
        try:
            self._settle(outcomes, timeout)
        except StoreError:
            self._outcomes = outcomes + self._outcomes
            raise

    def _settle(self, outcomes: Sequence[Outcome], timeout: float) -> None:
        """Write outcomes; if an internal error prevents that, all but the one that causes it."""
        try:
            self._store.settle(self._lane, outcomes, timeout=timeout)
        except StoreError:
            raise
        except Exception as error:
            if len(outcomes) > 1:
                for outcome in outcomes:
                    self._settle([outcome], timeout)
            else:
                message = f"{self._lane}: an outcome cannot be written, {type(error).__name__}: {error}"
                self._logger.log(logging.ERROR, message, key=f"outcome:{self._lane}")
