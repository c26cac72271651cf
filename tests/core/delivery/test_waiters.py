"""With `flush="inline"` a request waits until its own records are settled, and for no others.

`flush_timeout` is an hour, so that a test fails if a request waits for too much.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from sessionsight import Analytics, Client, Settings
from sessionsight.capture.interfaces import Batch
from sessionsight.capture.records import DropReason, QueuedRecord, Record
from sessionsight.capture.scope import RequestScope
from sessionsight.delivery.stores.base import LaneBatch
from sessionsight.delivery.transport import TimeLimits
from sessionsight.delivery.waiters import DeliveryWaiter, WaiterTracker
from sessionsight.destinations.base import Action, Limits, VendorRequest, VendorResponse, Verdict
from sessionsight.request.context import EMPTY_CONTEXT, TrackingContext
from tests.core.box import BoxDestination, Visit
from tests.core.delivery.kit import event
from tests.support.server import PATIENCE, auntil, until

HOUR = 3600.0


class Vendor(BoxDestination):
    """Accepts single records, several in parallel; it rejects, delays or loses them by their names."""

    def __init__(self, **limits: Any) -> None:
        super().__init__()
        self.limits = Limits(**{"max_records": 1, "concurrency": 8, **limits})
        self.open = threading.Event()
        self.taken: list[str] = []

    def drop_reason(self, record: Record, context: TrackingContext) -> DropReason | None:
        return DropReason.NO_IDENTITY if record.label == "nobody" else None

    def build_requests(self, entries: Sequence[QueuedRecord], *, now: float) -> Iterable[VendorRequest]:
        return [VendorRequest(url="https://box.example/", headers={}, body=b"", entries=entries)]

    def classify(self, call: VendorRequest, reply: VendorResponse) -> Verdict:
        action = Action.SPLIT if call.entries[0].record.label == "too_large" else Action.DELIVERED
        return Verdict(action=action)

    # As a transport.

    def send(self, call: VendorRequest, limits: TimeLimits) -> VendorResponse:
        names = [entry.record.label for entry in call.entries]
        if "stalled" in names:
            assert self.open.wait(PATIENCE)
        self.taken += names
        return VendorResponse(status=200)

    def close(self) -> None:
        pass


Make = Callable[..., tuple[Client, Vendor]]


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    made: list[tuple[Client, Vendor]] = []
    spool = "memory" if request.param == "memory" else f"sqlite:///{tmp_path}/spool.db"

    def make(limits: dict[str, Any] | None = None, **options: Any) -> tuple[Client, Vendor]:
        vendor = Vendor(**(limits or {}))
        given = {"flush": "inline", "flush_timeout": HOUR, "linger": HOUR, "spool": spool, **options}
        client = Client(Settings(destinations=(vendor,), **given), make_transport=lambda destination: vendor)
        made.append((client, vendor))
        return made[-1]

    yield make
    for client, vendor in made:
        vendor.open.set()
        client.shutdown(PATIENCE)


def request_of(client: Client) -> Analytics:
    return Analytics(RequestScope(client, Visit()))


@pytest.mark.parametrize("end", [RequestScope.end_before_last_byte, RequestScope.close])
def test_a_request_waits_for_its_records(end: Callable[[RequestScope], None], make: Make) -> None:
    client, vendor = make()
    analytics = request_of(client)
    for number in range(5):
        analytics.capture(f"seen {number}")
    end(analytics._scope)
    assert sorted(vendor.taken) == [f"seen {number}" for number in range(5)]


def test_a_request_does_not_wait_for_others(make: Make) -> None:
    client, vendor = make()
    client.bind(user_id="another").capture("stalled")
    analytics = request_of(client)
    analytics.capture("seen")
    analytics._scope.end_before_last_byte()
    assert vendor.taken == ["seen"]


def test_a_request_without_records_does_not_wait(make: Make) -> None:
    client, vendor = make()
    client.bind(user_id="another").capture("stalled")
    request_of(client)._scope.end_before_last_byte()
    assert vendor.taken == []


def test_a_request_waits_for_records_submitted_earlier(make: Make) -> None:
    client, vendor = make()
    analytics = request_of(client)
    analytics.capture("early")
    analytics._scope.submit_now()
    analytics._scope.end_before_last_byte()
    assert vendor.taken == ["early"]


def test_a_request_waits_for_records_captured_after_its_response(make: Make) -> None:
    client, vendor = make()
    analytics = request_of(client)
    analytics._scope.end_before_last_byte()
    analytics.capture("in_the_background")
    analytics._scope.close()
    assert vendor.taken == ["in_the_background"]


@pytest.mark.parametrize(
    ("names", "options"),
    [
        (["nobody"], {}),
        (["dropped", "seen"], {"before_send": lambda record, _: record if record["name"] == "seen" else None}),
        (["too_large"], {}),
    ],
)
def test_the_wait_ends_for_records_that_are_not_delivered(
    names: list[str], options: dict[str, Any], make: Make
) -> None:
    client, _ = make(**options)
    analytics = request_of(client)
    for name in names:
        analytics.capture(name)
    analytics._scope.end_before_last_byte()
    assert client.stats().lanes["box"].pending == 0


def test_a_request_does_not_wait_for_a_duplicate(make: Make) -> None:
    client, vendor = make()
    for _ in range(2):
        analytics = request_of(client)
        analytics.capture("paid", key="order:1")
        analytics._scope.end_before_last_byte()
    assert vendor.taken == ["paid"]
    assert client.stats().lanes["box"].dropped == {"duplicate": 1}


def test_a_request_does_not_wait_for_records_dropped_by_a_full_queue(make: Make) -> None:
    client, vendor = make({"concurrency": 1}, queue_records=2, spool="memory")
    client.bind(user_id="another").capture("stalled")
    until(lambda: client.stats().lanes["box"].pending == 1, "it is in flight")
    analytics = request_of(client)
    analytics.capture("dropped")
    waiting = threading.Thread(target=analytics._scope.end_before_last_byte)
    waiting.start()
    until(lambda: client.stats().lanes["box"].pending == 2, "it is queued")
    client.bind(user_id="another").capture("newer")
    waiting.join(PATIENCE)
    assert not waiting.is_alive()
    assert vendor.taken == []


def test_the_wait_ends_when_the_client_is_closed(make: Make) -> None:
    client, _ = make()
    analytics = request_of(client)
    analytics.capture("stalled")
    waiting = threading.Thread(target=analytics._scope.end_before_last_byte)
    waiting.start()
    until(lambda: client.stats().lanes["box"].pending == 1, "it is queued")
    client.shutdown(0)
    waiting.join(PATIENCE)
    assert not waiting.is_alive()


def test_all_waits_of_a_request_together_take_at_most_flush_timeout(make: Make) -> None:
    client, _ = make(flush_timeout=0.01)
    analytics = request_of(client)
    analytics.capture("stalled")
    analytics._scope.end_before_last_byte()
    analytics.capture("stalled")
    analytics._scope.close()  # does not wait, because the timeout is over
    assert client.stats().lanes["box"].pending == 2
    assert client._engine_for_process()._waiters._waiting == {}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_coroutines_wait_without_a_thread(make: Make) -> None:
    client, vendor = make()
    requests = [request_of(client) for _ in range(60)]
    over: list[Analytics] = []

    async def end(analytics: Analytics) -> None:
        analytics.capture("stalled")
        await analytics._scope.aend_before_last_byte()
        over.append(analytics)

    async with anyio.create_task_group() as tasks:
        for analytics in requests:
            tasks.start_soon(end, analytics)
        await auntil(lambda: client.stats().lanes["box"].pending == len(requests), "all wait")
        with anyio.fail_after(PATIENCE):
            assert over == []
            other = request_of(client)
            other.capture("nobody")
            await other._scope.aend_before_last_byte()
            await request_of(client)._scope.aend_before_last_byte()
        vendor.open.set()
    assert len(over) == len(requests)
    assert vendor.taken.count("stalled") == len(requests)


async def test_the_sync_methods_do_not_wait_on_an_event_loop(make: Make) -> None:
    client, _ = make()
    analytics = request_of(client)
    analytics.capture("stalled")
    analytics._scope.end_before_last_byte()
    analytics._scope.close()


async def test_all_waits_of_a_coroutine_together_take_at_most_flush_timeout(make: Make) -> None:
    client, _ = make(flush_timeout=0.01)
    analytics = request_of(client)
    analytics.capture("stalled")
    await analytics._scope.aend_before_last_byte()
    analytics.capture("stalled")
    await analytics._scope.aend_before_last_byte()
    assert not client._engine_for_process()._waiters._waiting


def test_the_wait_ends_for_records_claimed_by_another_process(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    vendor = Vendor(concurrency=1)
    settings = Settings(destinations=(vendor,), flush="inline", flush_timeout=HOUR, spool=f"sqlite:///{path}")
    client = Client(settings, make_transport=lambda destination: vendor)
    client.bind(user_id="another").capture("stalled")

    def rows(where: str = "1") -> int:
        [[number]] = connection.execute(f"SELECT count(*) FROM queue WHERE {where}").fetchall()
        return int(number)

    connection = sqlite3.connect(path, isolation_level=None)
    try:
        until(lambda: rows("claimed_by > 0") == 1, "it is in flight, and occupies the lane")
        analytics = request_of(client)
        analytics.capture("seen")
        waiting = threading.Thread(target=analytics._scope.end_before_last_byte)
        waiting.start()
        until(lambda: rows() == 2, "it is in the file")
        connection.execute("UPDATE queue SET claimed_by = 1000 WHERE record = (SELECT max(record) FROM queue)")
        waiting.join(PATIENCE)
        assert not waiting.is_alive()
        connection.execute("UPDATE queue SET claimed_by = 0 WHERE claimed_by = 1000")
    finally:
        connection.close()
        vendor.open.set()
        assert client.shutdown(PATIENCE)
    assert vendor.taken == ["stalled", "seen"]


def test_records_that_nobody_waits_for_resolve_nothing() -> None:
    tracker = WaiterTracker()
    waiter = DeliveryWaiter(tracker, HOUR, lambda deadline: None)
    awaited, other = event("awaited"), event("other")
    batches = [Batch([awaited.record], EMPTY_CONTEXT, waiter=waiter), Batch([other.record], EMPTY_CONTEXT)]
    tracker.track(batches, [LaneBatch("box", [awaited, other])])
    tracker.resolve("box", [other])
    assert not waiter.resolved
    tracker.resolve("box", [awaited])
    assert waiter.resolved
