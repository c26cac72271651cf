"""A client whose transport keeps what it is given."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from werkzeug.test import create_environ

from sessionsight import Client, Settings
from sessionsight.delivery.transport import TimeLimits
from sessionsight.destinations import Analyse
from sessionsight.destinations.base import VendorRequest, VendorResponse

COOKIE = "ss_vid=visitor-1"


class Recorder:
    """A client with one destination, and what arrives there.

    Args:
        **settings: Of the client; strict by default.
    """

    def __init__(self, **settings: Any) -> None:
        self.open = threading.Event()
        """Cleared, it makes the vendor keep everybody waiting."""
        self.open.set()
        self._events: list[dict[str, Any]] = []
        self.client = Client(
            Settings(**{"destinations": (Analyse(public_key="pk_live_1"),), "strict": True, "linger": 0, **settings}),
            make_transport=lambda destination: self,
        )

    def send(self, call: VendorRequest, limits: TimeLimits) -> VendorResponse:
        assert self.open.wait(10)
        self._events += json.loads(call.body)["events"]
        return VendorResponse(status=200)

    def close(self) -> None:
        pass

    @property
    def handed_over(self) -> int:
        """How many records requests have handed over so far."""
        return self.client.stats().lanes["analyse"].captured

    @property
    def arrived(self) -> list[str]:
        """The names of the events that have arrived by now."""
        return [event["event_name"] for event in self._events]

    def events(self) -> list[dict[str, Any]]:
        """All events that were handed over, as they arrive."""
        assert self.client.flush(10)
        return self._events

    def names(self) -> list[str]:
        """The names of all events that were handed over."""
        return [event["event_name"] for event in self.events()]

    def users(self) -> list[str | None]:
        """The users of all events that were handed over."""
        return [event.get("person_id") for event in self.events()]


class DurableRecorder(Recorder):
    """The same with a spool in a file, whose vendor takes nothing until it is opened.

    Args:
        folder: Where the file is.
        **settings: Of the client.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        self._path = folder / "spool.db"
        super().__init__(spool=f"sqlite:///{self._path}", **settings)
        self.open.clear()

    @property
    def on_disk(self) -> int:
        """How many records the file has taken, without asking the client, who would write the rest first."""
        return self._counted("captured")

    @property
    def bypassed(self) -> int:
        """How many of them had to wait in memory, because the file could not be written in time."""
        return self._counted("bypassed")

    @contextmanager
    def locked(self) -> Iterator[Callable[[], None]]:
        """Somebody else writes to the file meanwhile, until the function that this gives is called."""
        self.client.stats()  # makes the file
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection.rollback
        finally:
            connection.close()

    def _counted(self, what: str) -> int:
        if not self._path.exists():
            return 0
        connection = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)
        try:
            connection.execute("BEGIN")  # both statements see the same file
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'counts'").fetchone():
                return 0
            [[number]] = connection.execute("SELECT coalesce(sum(number), 0) FROM counts WHERE counter = ?", (what,))
        finally:
            connection.close()
        return int(number)

    def stop(self) -> None:
        """Deliver the rest."""
        self.open.set()
        assert self.client.shutdown(10)


def environ(**more: Any) -> dict[str, Any]:
    """A WSGI environment of a visitor's request."""
    return {**create_environ("/orders/1", "http://shop.example", headers={"Cookie": COOKIE}), **more}
