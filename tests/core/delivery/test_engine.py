"""The engine: an internal error loses only the records that it concerns, and each of them is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sessionsight import Client, Settings, TrackingContext
from sessionsight.capture.interfaces import Batch
from sessionsight.capture.records import DropReason, Record
from sessionsight.destinations.base import Limits
from sessionsight.request.context import EMPTY_CONTEXT, Page
from tests.core.box import Box, BoxDestination, Recorder
from tests.core.delivery.kit import event
from tests.support.server import until

MakeClient = Callable[..., Recorder]


class Leaving(BoxDestination):
    """A custom destination that raises SystemExit for its first record."""

    left = False

    def drop_reason(self, record: Record, context: TrackingContext) -> DropReason | None:
        if not self.left:
            self.left = True
            raise SystemExit
        return None


class Slow(BoxDestination):
    """A destination whose limits are never reached, so that a record waits for the whole linger."""

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
    """Make the first call of a method raise; later ones behave as before."""
    original = getattr(owner, name)

    def fail(*_: object, **__: object) -> None:
        patch.setattr(owner, name, original)
        raise RuntimeError("out of order")

    patch.setattr(owner, name, fail)


def delivered(recorder: Recorder) -> list[str]:
    """Return the labels that have arrived, without a flush, which would do the thread's work."""
    return [entry.record.label for entry in recorder.box.entries.get("box", [])]


def test_the_thread_survives_exceptions_of_a_destination(make: MakeClient, caplog: pytest.LogCaptureFixture) -> None:
    recorder = make(Leaving())
    recorder.client.analytics.capture("a")
    until(lambda: "internal error, SystemExit: ; 1 records are lost" in caplog.text, "it is told")

    recorder.client.analytics.capture("b")

    until(lambda: delivered(recorder) == ["b"], "the next one is delivered")
    assert recorder.client.stats().rejected == 1


@pytest.mark.parametrize("spool", ["memory", "sqlite:///{path}"])
def test_records_lost_by_an_internal_error_in_the_spool_are_counted(
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


def test_an_error_after_enqueueing_loses_no_record(
    make: MakeClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = make()
    fail_once(monkeypatch, recorder.client._engine._lanes["box"], "notify")
    recorder.client.analytics.capture("a")
    until(lambda: "RuntimeError: out of order; 0 records are lost" in caplog.text, "it is told")

    assert [record.label for record in recorder.records()] == ["a"]
    assert recorder.client.stats().rejected == 0


def test_a_batch_whose_context_fails_does_not_affect_others(
    make: MakeClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each record is counted once, also when the rest of the step fails as well."""
    engine = make().client._engine
    good, bad = Batch([event("a").record], EMPTY_CONTEXT), Batch([event("b").record], lambda: 1 / 0)  # type: ignore[arg-type, return-value]

    engine._process_batches([bad, good])
    assert (engine.counts()["rejected"], engine.stats()["box"].captured) == (1, 1)
    fail_once(monkeypatch, engine._spool, "enqueue")
    engine._process_batches([bad, good])

    assert (engine.counts()["rejected"], engine.stats()["box"].captured) == (3, 1)
    assert "internal error, ZeroDivisionError: division by zero; 1 records are lost" in caplog.text


def test_the_memory_of_a_context_counts_with_the_first_of_its_records(make: MakeClient) -> None:
    context = TrackingContext(user_id="user_1", page=Page(url="https://shop.example.com/" + "x" * 50_000))
    batch = Batch([event(name).record for name in "abc"], context)

    (entries,) = make().client._engine._resolve_contexts([batch]).values()

    first, *others = [entry.memory for entry in entries]
    assert first > 50_000
    assert 0 < max(others) < 1_000


def test_a_burst_of_20000_records_into_the_default_queue_loses_none(make: MakeClient) -> None:
    recorder = make(Slow(), linger=3600.0)
    for number in range(20_000):
        recorder.client.analytics.capture("row_imported", {"n": number}, user_id="user_1")

    assert recorder.client.stats().lanes["box"].pending == 20_000


def test_a_client_without_destinations_starts_nothing_and_stores_nothing(tmp_path: Path) -> None:
    client = Client(Settings(spool=f"sqlite:///{tmp_path / 'spool.db'}"))
    client.start_delivery()
    written = client.encode(Batch([event("a").record], EMPTY_CONTEXT))
    assert (written.records, written.counts) == ([], {})
    assert list(tmp_path.iterdir()) == []
