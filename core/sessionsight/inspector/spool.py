"""Reads the durable spool that the health page shows."""

from __future__ import annotations

import threading
import time

from msgspec import Struct
from msgspec.structs import replace

from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.factory import open_store
from sessionsight.delivery.stores.base import StoreStats
from sessionsight.errors import ConfigurationError, escape_control_characters
from sessionsight.log import ThrottledLogger
from sessionsight.spool_url import spool_name, url_error

__all__ = ["SpoolReader", "SpoolReading"]

# Seconds that a page waits for a reading, and for which one counts as new.
_WAIT = 2.0
_FRESH = 1.0
_TIMEOUT = 5.0


class SpoolReading(Struct, frozen=True, kw_only=True):
    """The last reading of a spool."""

    name: str
    """The spool, without user and password."""
    stats: StoreStats | None = None
    error: str | None = None
    """Why the spool cannot be read."""
    at: float | None = None
    """When that was, in Unix seconds; None before the first reading."""
    waits: bool = False
    """True if a newer reading has not ended yet."""


class SpoolReader:
    """Reads a spool on a thread, because a store may answer late or never, and the page must not wait for it.

    Args:
        spool: A URL as in the setting, or the path of a file.
        wait: Seconds that `read` waits.

    Raises:
        ConfigurationError: The URL is not valid. It may have a password, so that no page may show it.
    """

    def __init__(self, spool: str, *, wait: float = _WAIT) -> None:
        if "://" in spool and (expected := url_error(spool)) is not None:
            raise ConfigurationError(f"spool must be {expected}")
        self._spool = spool
        self._wait = wait
        self._lock = threading.Lock()
        self._thread = threading.Thread()  # never started
        self._reading = SpoolReading(name=spool_name(spool))
        self._fresh_until = 0.0

    def read(self) -> SpoolReading:
        """Return a reading of the last second, or an older one if a store takes too long to answer."""
        with self._lock:
            if not self._thread.is_alive() and time.monotonic() >= self._fresh_until:
                self._thread = threading.Thread(target=self._run, name="sessionsight-inspector-spool", daemon=True)
                self._thread.start()
            thread = self._thread
        thread.join(self._wait)
        return replace(self._reading, waits=thread.is_alive())

    def _run(self) -> None:
        stats, error = None, None
        try:
            store = open_store(self._spool, DeliveryOptions(), ThrottledLogger(), timeout=_TIMEOUT)
            try:
                stats = store.stats()
            finally:
                store.close()
        except Exception as problem:  # also those of a Django project
            error = escape_control_characters(str(problem)) or type(problem).__name__
        self._reading = SpoolReading(name=self._reading.name, stats=stats, error=error, at=time.time())
        self._fresh_until = time.monotonic() + _FRESH
