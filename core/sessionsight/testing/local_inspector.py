"""A local inspector for tests, which receives the app's HTTP requests and validates them as the vendors do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

from sessionsight.errors import MissingDependencyError
from sessionsight.test_mode import test_mode
from sessionsight.testing.expectation import format_records
from sessionsight.testing.lanes import TEST_KEYS
from sessionsight.testing.recorder import Recorder, record
from sessionsight.testing.redirect import InspectorRedirect

if TYPE_CHECKING:
    from sessionsight.inspector.model import GoalTotal, InspectedRecord, Kind, Vendor
    from sessionsight.inspector.store import Store

__all__ = ["LocalInspector", "RecordFilter", "run_inspector"]


class RecordFilter(TypedDict, total=False):
    """Selects records; criteria that are not given match any record."""

    vendor: Vendor
    kind: Kind
    status: Literal["accepted", "refused"]
    session: str
    """The session id of any vendor."""
    visitor: str
    user: str
    event: str
    """An event's name or a goal's id."""
    text: str
    """Text anywhere in the record as it was sent."""


class LocalInspector:
    """An inspector on a free port of this machine, started by `run_inspector` or pytest's `sessionsight_inspector`."""

    def __init__(self, url: str, store: Store, captured: Recorder) -> None:
        self.url = url
        """The URL of its API and its pages."""
        self.captured = captured
        """The captured records, whether they were delivered or not."""
        self._store = store

    @property
    def destinations(self) -> dict[str, dict[str, str]]:
        """The `destinations` setting that sends to this inspector: all four vendors, with test keys.

        Only needed in other processes; the clients of this process deliver here in any case.
        """
        url_options = {"sessionsight": "api_url", "signal": "endpoint", "saytics": "api_url", "analyse": "host"}
        return {name: {**keys, url_options[name]: self.url} for name, keys in TEST_KEYS.items()}

    @property
    def flags(self) -> dict[str, bool | str]:
        """Feature flags of all visitors, which a test may change: `inspector.flags["new-checkout"] = True`."""
        return self._store.flags

    def records(self, **wanted: Unpack[RecordFilter]) -> list[InspectedRecord]:
        """Return the received records, oldest first, including rejected ones with their `errors`."""
        from sessionsight.inspector.filters import Filter
        from sessionsight.inspector.store import MAX_RECORDS

        return self._store.records(Filter(**wanted), limit=MAX_RECORDS).records[::-1]

    def goals(self) -> list[GoalTotal]:
        """Return the counted goals with their totals."""
        return self._store.goals()

    def wait(self, count: int = 1, timeout: float = 10.0, **wanted: Unpack[RecordFilter]) -> list[InspectedRecord]:
        """Wait until this many matching records have been received.

        Args:
            count: The minimum number of records.
            timeout: Seconds to wait.
            **wanted: The criteria of the records.

        Returns:
            All matching records, oldest first.

        Raises:
            AssertionError: The timeout has elapsed. The message lists the records that were received.

        Example:
            >>> inspector.wait(4, event="order_processed")  # doctest: +SKIP
        """
        __tracebackhide__ = True
        deadline = time.monotonic() + timeout
        changed = threading.Event()
        with self._store.listening(lambda _: changed.set()):
            while True:
                changed.clear()
                found = self.records(**wanted)
                if len(found) >= count:
                    return found
                if not changed.wait(max(0.0, deadline - time.monotonic())):
                    raise AssertionError(self._missed(len(found), count, timeout, wanted))

    def clear(self) -> None:
        """Remove all received and all captured records."""
        self._store.clear()
        self.captured.clear()

    def _missed(self, found: int, count: int, timeout: float, wanted: RecordFilter) -> str:
        asked = "".join(f" {name}={value!r}" for name, value in wanted.items())
        lines = [f"{found} of {count} records{asked} arrived within {timeout:g} s"]
        if arrived := [_line(record) for record in self.records()]:
            lines += ["", "arrived:", *arrived]
        lines += format_records("captured:", self.captured.captured)
        lines += format_records("captured and dropped:", self.captured.dropped)
        if not self.captured.captured and not self.captured.dropped:
            lines += ["", "nothing was captured"]
        return "\n".join(lines)


@contextmanager
def run_inspector() -> Iterator[LocalInspector]:
    """Run an inspector to which every client of the process delivers in the block, whenever it was created.

    Each client keeps its settings and lanes, but not their URLs and keys: nothing is sent to a configured vendor. A
    client that has no destinations, or is disabled, delivers to all four vendors of the inspector. Records that a
    client queued earlier wait until the inspector has ended. Invalid calls raise, as with `record`.

    Yields:
        The running inspector.

    Raises:
        MissingDependencyError: The extra `inspector` is not installed.

    Example:
        >>> from sessionsight import Client, Settings
        >>> with run_inspector() as inspector:
        ...     client = Client(Settings())
        ...     receipt = client.analytics.capture("order_processed", user_id="user_1")
        ...     records = inspector.wait(3, event="order_processed")
        >>> sorted(record.vendor for record in records)
        ['analyse', 'saytics', 'signal']
        >>> client.shutdown()
        True
    """
    try:
        from sessionsight.inspector.server import run_in_thread
    except ImportError as error:
        raise MissingDependencyError(
            f"the inspector needs {error.name}: pip install 'sessionsight[inspector]'"
        ) from error
    with run_in_thread() as running, record() as captured:
        inspector = LocalInspector(running.url, running.store, captured)
        with closing(InspectorRedirect(inspector.destinations)) as redirect, test_mode.redirect_delivery(redirect):
            yield inspector


def _line(record: InspectedRecord) -> str:
    refused = "" if record.accepted else f"  refused: {'; '.join(record.errors)}"
    return f"    {record.vendor}: {record.kind} {record.name!r}  {record.properties}{refused}"
