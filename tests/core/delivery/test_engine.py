"""What one process shares between its lanes: a fault of ours costs the records it concerns, each of them counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sessionsight import Client, Settings, TrackingContext
from sessionsight.capture.interfaces import Batch
from sessionsight.capture.records import DropReason, Record
from sessionsight.destinations.base import Limits
from sessionsight.request.context import EMPTY_CONTEXT
from tests.core.box import Box, BoxDestination, Recorder
from tests.core.delivery.kit import event
from tests.support.server import until

MakeClient = Callable[..., Recorder]


class Leaving(BoxDestination):
    """Somebody's own destination, which asks the process to end at the first record it sees."""

    left = False

    def drop_reason(self, record: Record, context: TrackingContext) -> DropReason | None:
        if not self.left:
            self.left = True
            raise SystemExit
        return None


class Slow(BoxDestination):
    """Lets nothing out within the time of a test: a record waits for others for as long as the linger says."""

    limits = Limits(max_records=10**6, max_bytes=10**9)


@pytest.fixture
def make() -> Iterator[MakeClient]:
    made: list[Client] = []

    def make(destination: BoxDestination | None = None, **options: Any) -> Recorder:
        box = Box()
        settings = Settings(destinations=(destination or BoxDestination(),), **{"linger": 0, **options})
        made.append(Client(settings, make_transport=lambda destination: box))
        return Recorder(made[-1], box)

    yield make
    for client in made:
        client.shutdown(timeout=0)


def fail_once(patch: pytest.MonkeyPatch, owner: object, name: str) -> None:
    """The first call of a method raises; those after it do what they always did."""
    original = getattr(owner, name)

    def fail(*_: object, **__: object) -> None:
        patch.setattr(owner, name, original)
        raise RuntimeError("out of order")

    patch.setattr(owner, name, fail)


def delivered(recorder: Recorder) -> list[str]:
    """What has arrived, without a flush, which would do the thread's work."""
    return [entry.record.label for entry in recorder.box.entries.get("box", [])]


def test_the_thread_outlives_whatever_a_destination_raises(make: MakeClient, caplog: pytest.LogCaptureFixture) -> None:
    recorder = make(Leaving())
    recorder.client.analytics.capture("a")
    until(lambda: "internal error, SystemExit: ; 1 records are lost" in caplog.text, "it is told")

    recorder.client.analytics.capture("b")

    until(lambda: delivered(recorder) == ["b"], "the next one is delivered")
    assert recorder.client.stats().rejected == 1


@pytest.mark.parametrize("spool", ["memory", "sqlite:///{path}"])
def test_what_the_spool_cannot_take_for_a_fault_of_ours_is_counted(
    spool: str, make: MakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = make(spool=spool.format(path=tmp_path / "spool.db"), strict=True)
    fail_once(monkeypatch, recorder.client._engine._spool, "enqueue")
    recorder.client.analytics.capture("a")
    until(lambda: "internal error, RuntimeError: out of order; 1 records are lost" in caplog.text, "it is told")

    recorder.client.analytics.capture("b")

    until(lambda: delivered(recorder) == ["b"], "the next one is delivered")
    stats = recorder.client.stats()
    assert (stats.rejected, stats.lanes["box"].captured, stats.lanes["box"].balanced) == (1, 1, True)


def test_what_has_come_into_a_lane_is_not_lost_by_a_fault_after_that(
    make: MakeClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = make()
    fail_once(monkeypatch, recorder.client._engine._lanes["box"], "notify")
    recorder.client.analytics.capture("a")
    until(lambda: "RuntimeError: out of order; 0 records are lost" in caplog.text, "it is told")

    assert [record.label for record in recorder.records()] == ["a"]
    assert recorder.client.stats().rejected == 0


def test_one_batch_without_a_context_costs_no_other(
    make: MakeClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is counted once, also where the rest of its step goes wrong as well."""
    engine = make().client._engine
    good, bad = Batch([event("a").record], EMPTY_CONTEXT), Batch([event("b").record], lambda: 1 / 0)  # type: ignore[arg-type, return-value]

    engine._process_batches([bad, good])
    assert (engine.counts()["rejected"], engine.stats()["box"].captured) == (1, 1)
    fail_once(monkeypatch, engine._spool, "enqueue")
    engine._process_batches([bad, good])

    assert (engine.counts()["rejected"], engine.stats()["box"].captured) == (3, 1)
    assert "internal error, ZeroDivisionError: division by zero; 1 records are lost" in caplog.text


def test_a_burst_of_twenty_thousand_into_the_default_queue_loses_nothing(make: MakeClient) -> None:
    recorder = make(Slow(), linger=3600.0)
    for number in range(20_000):
        recorder.client.analytics.capture("row_imported", {"n": number}, user_id="user_1")

    assert recorder.client.stats().lanes["box"].pending == 20_000
