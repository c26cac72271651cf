"""A relay: delivers what other processes have left in a durable spool (`delivery="relay"`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from threading import Thread
from typing import cast

from msgspec import Struct
from msgspec.structs import replace

from sessionsight.client import Client
from sessionsight.delivery.queue.durable_spool import DurableSpool
from sessionsight.delivery.stores.errors import StoreError
from sessionsight.errors import ConfigurationError, did_you_mean
from sessionsight.test_mode import TESTING_VARIABLE, test_mode

__all__ = ["LaneProgress", "Relay"]


class LaneProgress(Struct, frozen=True, kw_only=True):
    """Snapshot of one lane."""

    name: str
    ready: int
    """Records that wait, with those that other relays have in flight."""
    in_flight: int
    """Records that this relay has in flight."""
    delivered: int
    """Records that all relays have delivered since this one was started."""
    dead: int
    """Dead letters."""
    state: str
    """As in `LaneStats`."""
    last_error: str | None


class Relay:
    """Delivers the records of a durable spool, beside any number of other relays.

    Args:
        client: Has the settings. It is closed, because two clients of a process must not share a spool.
        lanes: Names of the destinations to deliver to; all by default.

    Raises:
        ConfigurationError: The settings have no durable spool or no destination, one of the lanes is unknown, or
            nothing is delivered under a test.

    Example:
        >>> from sessionsight import Settings
        >>> Relay(Client(Settings()))
        Traceback (most recent call last):
        ...
        sessionsight.errors.ConfigurationError: a relay needs a durable spool, which the other processes write to: set \
spool, such as sqlite:////var/lib/shop/analytics.db
    """

    def __init__(self, client: Client, lanes: Collection[str] = ()) -> None:
        settings = client.settings
        names = [destination.name for destination in settings.destinations]
        if not settings.durable:
            raise ConfigurationError(
                "a relay needs a durable spool, which the other processes write to: set spool, such as "
                "sqlite:////var/lib/shop/analytics.db"
            )
        if settings.disabled or not names:
            raise ConfigurationError("a relay has nothing to deliver: disabled is set, or no destination is configured")
        if unknown := [lane for lane in lanes if lane not in names]:
            raise ConfigurationError(f"unknown lane {unknown[0]!r}; {did_you_mean(unknown[0], names)}")
        if test_mode.suppressed:
            raise ConfigurationError(f"nothing is delivered under a test: unset {TESTING_VARIABLE}")
        client._engine_for_process().close()
        destinations = tuple(each for each in settings.destinations if not lanes or each.name in lanes)
        self.client = Client(
            replace(settings, delivery="background", flush="background", destinations=destinations),
            make_transport=client._make_transport,
        )
        """The client that delivers."""
        self._engine = self.client._engine_for_process()
        self._spool = cast("DurableSpool", self._engine._spool)
        self._spool.polls = True
        self.lanes = tuple(each.name for each in destinations)
        """The names of the destinations to deliver to."""
        self._delivered: dict[str, int] = {}

    def check(self) -> str | None:
        """Return why the spool cannot be used, or None if it can be."""
        try:
            self._spool.store.ready()
        except StoreError as error:
            return str(error)
        return None

    @property
    def waits_for_spool(self) -> bool:
        """True while the spool cannot be used, and the relay tries again with increasing delays."""
        return self._spool.outage > 0

    @property
    def idle(self) -> bool:
        """True if nothing was ready for some seconds."""
        return self._spool.idle

    def start(self) -> None:
        """Start to deliver, on threads."""
        self._delivered = {name: lane.delivered for name, lane in self._engine.stats().items()}
        self._engine.start()

    def drain(self, done: Callable[[], object]) -> None:
        """Call a function, on another thread, when everything is delivered that is in the spool now."""

        def wait() -> None:
            # Records of relays that have ended count as well, and a lane may be about to recover them.
            self._spool.maintain()
            with self._spool._maintaining:
                pass
            self._engine.flush(float("inf"))
            done()

        Thread(target=wait, name="sessionsight-relay", daemon=True).start()

    def begin_stop(self) -> None:
        """Start no more calls."""
        for lane in self._engine._lanes.values():
            lane.begin_shutdown(time.monotonic())

    def stop(self, timeout: float | None = None) -> list[LaneProgress]:
        """Finish the calls in flight, release all other records to other relays, and return a last snapshot.

        Args:
            timeout: Seconds; by default the `shutdown_timeout` setting.
        """
        self.begin_stop()
        seconds = self.client.settings.shutdown_timeout if timeout is None else timeout
        self._engine._thread.finish_in_flight(time.monotonic() + seconds)
        progress = self.progress()
        self._engine.close()
        return progress

    def progress(self) -> list[LaneProgress]:
        """Return a snapshot of each lane."""
        ledgers = self._engine.stats()
        # If the store was emptied, its ledger has started again.
        self._delivered = {name: min(before, ledgers[name].delivered) for name, before in self._delivered.items()}
        return [
            LaneProgress(
                name=name,
                ready=max(stats.pending - (in_flight := self._engine._lanes[name].in_flight), 0),
                in_flight=in_flight,
                delivered=stats.delivered - self._delivered.get(name, 0),
                dead=stats.dead,
                state=stats.state,
                last_error=stats.last_error,
            )
            for name, stats in ledgers.items()
        ]
