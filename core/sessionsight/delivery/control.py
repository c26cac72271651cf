"""Waits for delivery, counts and controls it: the part of the client that concerns delivered records."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING

from sessionsight.capture.encoding import replace_surrogates
from sessionsight.capture.receipt import Receipt
from sessionsight.capture.validation import validate_id
from sessionsight.delivery.engine import Engine
from sessionsight.delivery.erasure import Erasure
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.stats import RecordStatus, Stats
from sessionsight.delivery.stores.base import DeadLetter
from sessionsight.errors import CaptureError, ConfigurationError, InvalidEventError, describe, did_you_mean
from sessionsight.log import logger
from sessionsight.test_mode import TESTING_VARIABLE, test_mode

__all__ = ["DeliveryControl"]


class DeliveryControl:
    """Base class of `Client`: waits for the delivery of its records, and returns what became of them."""

    settings: DeliveryOptions
    _configured: frozenset[str]
    if TYPE_CHECKING:

        def warn_or_raise(self, error: CaptureError) -> None: ...  # noqa: D102  # `Client` has it
        def _engine_for_process(self) -> Engine: ...
        def _log(self, level: int, message: str, *, key: str | None = None) -> None: ...

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything is delivered; with `delivery="relay"`, until everything is in the durable spool.

        Args:
            timeout: Maximum number of seconds to wait; by default the `flush_timeout` setting.

        Returns:
            True if no record is left.
        """
        given: object = timeout
        if not isinstance(given, int | float | None):
            self.warn_or_raise(
                InvalidEventError(f"flush(): timeout must be a number of seconds, not {describe(given)}")
            )
            timeout = None
        seconds = self.settings.flush_timeout if timeout is None else timeout
        return self._engine_for_process().flush(time.monotonic() + seconds)

    async def aflush(self, timeout: float | None = None) -> bool:
        """Do as `flush`, in a worker thread, so that the event loop (asyncio or trio) is not blocked."""
        from anyio import to_thread  # slow to import

        return await to_thread.run_sync(partial(self.flush, timeout), abandon_on_cancel=True)

    async def adrain(self) -> None:
        """Deliver as the server stops, within `shutdown_timeout`, and log how many records are left.

        For adapters. The client keeps working, because some servers kill the process right after this and others
        continue to serve requests.
        """
        try:
            if await self.aflush(self.settings.shutdown_timeout) or self._engine_for_process().durable:
                return
            lanes = self.stats().lanes.items()
            left = ", ".join(f"{lane.pending} for {name}" for name, lane in lanes if lane.pending)
            self._log(
                logging.WARNING, f"the server stops while records are pending, which are lost with the process: {left}"
            )
        except Exception:
            logger.exception("waiting for delivery at shutdown failed")

    def shutdown(self, timeout: float | None = None) -> bool:
        """Deliver pending records until the timeout, then stop permanently.

        Called automatically when the interpreter exits. Records that are left are counted and logged as lost.

        Args:
            timeout: Seconds; by default the `shutdown_timeout` setting.

        Returns:
            True if no record was lost.
        """
        deadline = time.monotonic() + (self.settings.shutdown_timeout if timeout is None else timeout)
        self.begin_shutdown(deadline)
        return self.finish_shutdown(deadline)

    def stats(self) -> Stats:
        """Return the outcomes of all records of this process, by lane."""
        engine = self._engine_for_process()
        counts = engine.counts()
        return Stats(
            lanes=engine.stats(),
            rejected=counts["rejected"],
            invalid_ids={
                name.removeprefix("invalid:"): number for name, number in counts.items() if name.startswith("invalid:")
            },
            mismatched_ids=counts["mismatched"],
        )

    def dead_letters(self) -> list[DeadLetter]:
        """Return records that could not be delivered, with the reasons, oldest first in each lane."""
        return self._engine_for_process().dead_letters()

    def status(self, receipt: Receipt) -> dict[str, RecordStatus]:
        """Return what is known of a captured record, for each destination that it goes to.

        A record that was delivered or dropped is not kept, so `not_found` means that, or that its request goes on, or
        that it is in the memory of another process. With a memory spool a record that is being sent, or waits for a
        repeated attempt, is `unknown`; with a durable spool it is `pending`. A spool that cannot be read: `unknown`.

        This reads whole queues, so it is for support and tests rather than for each request. With a durable spool it
        blocks while it reads the file.

        Args:
            receipt: The result of a capturing call of this client, or of another process that shares its durable spool.

        Returns:
            Names of destinations to statuses; empty for a refused call.

        Raises:
            InvalidEventError: In strict mode, it is not a receipt. Otherwise that is logged.

        Example:
            >>> client.status(receipt)["sessionsight"].state  # doctest: +SKIP
            'pending'
        """
        given: object = receipt
        if not isinstance(given, Receipt):
            self.warn_or_raise(InvalidEventError(f"status() takes the receipt of a call, not {describe(given)}"))
            return {}
        record = receipt._record
        return {} if record is None or not receipt else self._engine_for_process().status(record)

    def erase(self, user_id: object, *, timeout: float = 10.0) -> list[Erasure]:
        """Erase a user: drop what waits about them in the queues, and ask each vendor to delete them.

        Records that wait and dead letters are dropped first, in every lane, and counted as `erased`. With a durable
        spool these are the records of all processes; in memory, those of this process. One that waits for a repeated
        attempt is dropped when that is due, if this process holds it. A record that is being sent, or that another
        process holds, is not dropped: stop capturing the user before, and repeat the call later.

        Then one request is sent to each vendor that documents one; Saytics does. There is no automatic retry: repeat
        the call after a failure, which is harmless. Blocks until the vendors have responded.

        Args:
            user_id: The app's own id of the user. Records that have only an anonymous id are not found by it.
            timeout: Seconds to wait for each vendor.

        Returns:
            The result for each destination.

        Raises:
            InvalidEventError: It is not a user id.

        Example:
            >>> [(each.destination, each.outcome) for each in client.erase("user_1")]  # doctest: +SKIP
            [('signal', 'unsupported'), ('saytics', 'erased')]
        """
        user = validate_id(user_id, "user_id")
        if user is None:
            raise InvalidEventError(f"erase(): user_id must be the id of a user, not {describe(user_id)}")
        if test_mode.suppressed:
            message = f"nothing is sent under a test: unset {TESTING_VARIABLE}, or run this outside of tests"
            return [Erasure(destination=name, outcome="failed", message=message) for name in sorted(self._configured)]
        return self._engine_for_process().erase(replace_surrogates(user), timeout)

    async def aerase(self, user_id: object, *, timeout: float = 10.0) -> list[Erasure]:
        """Do as `erase`, in a worker thread, so that the event loop (asyncio or trio) is not blocked."""
        from anyio import to_thread  # slow to import

        return await to_thread.run_sync(partial(self.erase, user_id, timeout=timeout), abandon_on_cancel=True)

    def resume(self, destination: str | None = None) -> None:
        """Retry immediately in lanes that have paused or backed off.

        Raises:
            ConfigurationError: The destination does not exist.
        """
        if destination is not None and destination not in self._configured:
            raise ConfigurationError(
                f"resume: unknown destination {destination!r}; {did_you_mean(destination, self._configured)}"
            )
        self._engine_for_process().resume(destination)

    # --- the Closable protocol --------------------------------

    @property
    def shutdown_timeout(self) -> float:
        """Seconds that shutdown may take."""
        return self.settings.shutdown_timeout

    def begin_shutdown(self, deadline: float) -> None:
        """Start to deliver pending records, without waiting."""
        self._engine_for_process().begin_shutdown(deadline)

    def finish_shutdown(self, deadline: float) -> bool:
        """Wait for delivery until the deadline (monotonic clock), then stop."""
        return self._engine_for_process().finish_shutdown(deadline)
