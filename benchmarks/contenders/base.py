"""Interface of a contender. Every one delivers by its own background thread, with its own defaults."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Protocol

from benchmarks.server import counted
from benchmarks.workload import EVENT, Visitor

NAMES = ("sessionsight", "posthog", "segment", "snowplow")


class Contender(Protocol):
    """One library, set up to deliver to the local server."""

    def capture(self, user: str) -> object:
        """Capture the event with its eight properties."""

    def capture_visit(self, visitor: Visitor) -> object:
        """The same, with the visitor's ids, page and user agent."""

    def flush(self) -> None:
        """Submit what is buffered, and wait until it is delivered."""


def contender(name: str, url: str, *, queue: int = 10_000) -> Contender:
    """Set one up.

    Args:
        name: One of `NAMES`.
        url: Where to deliver to.
        queue: How many events it must be able to keep; by default what all four keep by default.
    """
    make: Callable[[str, int], Contender] = import_module(f"benchmarks.contenders.{name}").make
    return make(url, queue)


MARKERS = {name: '"ue_px"' if name == "snowplow" else EVENT for name in NAMES}
"""A text that each library sends once for an event: its name, which snowplow encodes."""


def deliver(library: Contender, url: str, records: int) -> None:
    """Wait until the server, which counts the library's marker, has received this number of records.

    Raises:
        RuntimeError: It has received another number.
    """
    library.flush()
    deadline = time.monotonic() + 60
    while (received := counted(url)) < records and time.monotonic() < deadline:
        time.sleep(0.002)
    if received != records:
        raise RuntimeError(f"{library} has delivered {received} records, not {records}")


IMPORTS = {
    "sessionsight": "import sessionsight; from sessionsight.delivery import httpx_transport as own; own.http_library()",
    "posthog": "import posthog",
    "segment": "import segment.analytics",
    "snowplow": "import snowplow_tracker",
}
"""Modules that are imported before the first event is delivered; ours imports its HTTP library only then."""
