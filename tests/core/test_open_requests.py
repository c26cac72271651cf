"""Records are submitted before the end of a request that captures many or takes long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sessionsight import Analytics, Client, Settings
from sessionsight.capture.scope import RequestScope
from sessionsight.test_mode import TestMode
from tests.core.box import Box, BoxDestination, Recorder, Visit
from tests.support.server import PATIENCE, until

COOKIE = "ss_vid=visitor-1"

Make = Callable[..., Recorder]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Recorder] = []

    def make(*names: str, **options: Any) -> Recorder:
        box = Box()
        destinations = tuple(BoxDestination(name) for name in names or ("box",))
        client = Client(
            Settings(destinations=destinations, strict=True, linger=0.0, **options), make_transport=lambda _: box
        )
        made.append(Recorder(client, box))
        return made[-1]

    yield make
    for recorder in made:
        assert recorder.client.shutdown(PATIENCE)


@pytest.fixture(params=["memory", "sqlite"])
def recorder(request: pytest.FixtureRequest, make: Make, tmp_path: Path) -> Recorder:
    return make(spool="memory" if request.param == "memory" else f"sqlite:///{tmp_path}/spool.db")


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Submits pending records immediately instead of after half a second."""
    monkeypatch.setattr("sessionsight.delivery.engine._OPEN_INTERVAL", 0.01)


def visit(recorder: Recorder, **more: Any) -> Analytics:
    return Analytics(RequestScope(recorder.client, Visit(COOKIE, **more)))


def open_visit(recorder: Recorder, **more: Any) -> Analytics:
    """Return the analytics of an open response."""
    analytics = visit(recorder, **more)
    analytics._scope.stays_open()
    return analytics


def arrived(recorder: Recorder, destination: str = "box") -> list[str]:
    return [entry.record.label for entry in recorder.box.entries.get(destination, [])]


def captured(recorder: Recorder) -> int:
    return recorder.client.stats().lanes["box"].captured


def test_one_record_of_an_open_response_is_submitted(recorder: Recorder) -> None:
    analytics = open_visit(recorder, user="ada", route="/stream")
    analytics.capture("opened")
    until(lambda: arrived(recorder) == ["opened"], "it has left, and the request is still open")
    analytics.capture("closed")
    analytics._scope.close()
    [opened, closed] = recorder.entries()
    assert (opened.record.label, closed.record.label) == ("opened", "closed")
    assert opened.context == closed.context
    assert (opened.user_id, opened.context.page.route) == ("ada", "/stream")


@pytest.mark.usefixtures("_soon")
def test_records_of_an_open_response_are_submitted_repeatedly(recorder: Recorder) -> None:
    analytics = open_visit(recorder)
    for number in range(3):
        analytics.capture(f"tick {number}")
        until(lambda number=number: len(arrived(recorder)) == number + 1, "it is submitted")  # type: ignore[misc]
    analytics._scope.close()
    assert arrived(recorder) == ["tick 0", "tick 1", "tick 2"]


def test_a_request_keeps_a_hundred_records_at_most_and_drops_none(recorder: Recorder) -> None:
    analytics = visit(recorder)
    kept: list[int] = []
    for number in range(1_050):
        analytics.capture(f"row {number}")
        kept.append(len(analytics._scope._records))
    assert max(kept) == 99
    assert captured(recorder) == 1_000
    analytics._scope.close()
    assert [entry.record.label for entry in recorder.entries()] == [f"row {number}" for number in range(1_050)]


def test_more_records_than_fit_into_a_queue_are_captured_at_the_vendors_pace(make: Make) -> None:
    recorder = make(queue_records=200)
    analytics = visit(recorder)
    for number in range(1_000):
        analytics.capture("row")
        if number % 100 == 99:
            assert recorder.client.flush(PATIENCE)
    analytics._scope.close()
    assert len(recorder.entries()) == 1_000


@pytest.mark.usefixtures("_soon")
def test_records_from_before_the_response_are_submitted_as_well(make: Make) -> None:
    recorder = make()
    analytics = visit(recorder)
    analytics.capture("before")
    analytics._scope.stays_open()
    until(lambda: arrived(recorder) == ["before"], "it is submitted")
    analytics._scope.close()


def test_records_are_kept_for_a_login_until_the_response_starts(make: Make) -> None:
    recorder = make()
    analytics = visit(recorder)
    analytics.capture("before")
    assert not recorder.client._engine_for_process()._open
    analytics.identify("ada")
    analytics._scope.close()
    assert recorder.users() == ["ada"] * 2


def test_identify_completes_records_that_are_not_submitted_yet(recorder: Recorder) -> None:
    analytics = visit(recorder)
    for _ in range(100):
        analytics.capture("before")
    analytics.capture("after")
    analytics.identify("ada")
    analytics._scope.close()
    assert recorder.users() == [None] * 100 + ["ada"] * 2


@pytest.mark.usefixtures("_soon")
def test_the_user_is_only_read_on_the_requests_thread(make: Make) -> None:
    threads: set[threading.Thread] = set()

    class Signed(Visit):
        def user_id(self) -> str | None:
            threads.add(threading.current_thread())
            return self.user

    recorder = make()
    analytics = Analytics(RequestScope(recorder.client, Signed(COOKIE, user="ada")))
    analytics._scope.stays_open()
    analytics.capture("opened")
    until(lambda: arrived(recorder) == ["opened"], "it is submitted")
    assert threads == {threading.current_thread()}
    assert recorder.users() == ["ada"]
    analytics._scope.close()


@pytest.mark.usefixtures("_soon")
def test_functions_of_the_settings_apply_to_open_responses(make: Make) -> None:
    recorder = make("box", "other", choose_destinations=lambda request: "other", should_capture=lambda request: True)
    analytics = open_visit(recorder, user="ada")
    analytics.capture("opened")
    until(lambda: arrived(recorder, "other") == ["opened"], "it is submitted")
    assert arrived(recorder) == []
    analytics._scope.close()


@pytest.mark.usefixtures("_soon")
def test_missing_consent_applies_to_open_responses(make: Make) -> None:
    recorder = make(consent=lambda data: False)
    analytics = open_visit(recorder, user="ada")
    analytics.capture("opened")
    until(lambda: recorder.dropped() == {"consent": 1}, "it is counted")
    analytics._scope.close()


def test_records_of_open_responses_are_submitted_at_shutdown(recorder: Recorder) -> None:
    analytics = open_visit(recorder)
    analytics.capture("opened")
    assert recorder.client.shutdown(PATIENCE)
    assert arrived(recorder) == ["opened"]
    analytics._scope.close()


def test_a_response_without_records_is_not_watched(make: Make) -> None:
    recorder = make()
    analytics = open_visit(recorder)
    assert not recorder.client._engine_for_process()._open
    analytics._scope.close()
    assert not recorder.client._engine_for_process()._thread.running


def test_a_failing_response_does_not_affect_others(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    class Failing:
        def submit_pending(self) -> None:
            raise ZeroDivisionError

    recorder = make()
    recorder.client.submit_soon(Failing())
    analytics = open_visit(recorder)
    analytics.capture("opened")
    until(lambda: arrived(recorder) == ["opened"], "it is submitted")
    assert "ZeroDivisionError" in caplog.text
    analytics._scope.close()


def test_open_responses_are_not_watched_while_delivery_is_suppressed(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = make()
    monkeypatch.setattr("sessionsight.client.test_mode", TestMode(suppressed=True))
    open_visit(recorder).capture("opened")
    assert not recorder.client._engine_for_process()._open


def test_records_of_many_threads_of_an_open_request_are_submitted_once(recorder: Recorder) -> None:
    analytics = open_visit(recorder)
    process = recorder.client._engine_for_process()

    def work(thread: int) -> None:
        for number in range(200):
            analytics.capture(f"{thread} {number}")

    workers = [threading.Thread(target=work, args=(thread,)) for thread in range(6)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        process._submit_open()
    for worker in workers:
        worker.join()
    analytics._scope.close()
    labels = [entry.record.label for entry in recorder.entries()]
    assert sorted(labels) == sorted(f"{thread} {number}" for thread in range(6) for number in range(200))
