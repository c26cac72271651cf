"""Delivery, recording and suppression, with a test mode of its own, because this suite delivers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sessionsight.capture.interfaces import Batch
from sessionsight.capture.records import DropReason, EventRecord, Record
from sessionsight.request.context import EMPTY_CONTEXT, TrackingContext
from sessionsight.test_mode import TESTING_VARIABLE, TestMode, _is_suppressed_by_environment

RECORDS: list[Record] = [EventRecord(name="seen", random=b"0123456789", time=0)]
BATCH = Batch(records=RECORDS, context=EMPTY_CONTEXT)


class Sink:
    """Stores submitted records."""

    def __init__(self, **flags: bool | str) -> None:
        self.flags = flags
        self.received: list[tuple[list[Record], DropReason | None]] = []

    def submit(self, context: TrackingContext, records: object, drop: DropReason | None, destinations: object) -> None:
        assert isinstance(records, list)
        self.received.append((records, drop))


def test_outside_tests_clients_read_one_attribute() -> None:
    assert not TestMode().active
    assert not TestMode().suppressed


def test_delivery_is_suppressed_until_every_suppression_has_ended() -> None:
    test_mode = TestMode()
    with test_mode.suppress_delivery():
        with test_mode.suppress_delivery():
            assert test_mode.intercept(BATCH)
        assert test_mode.intercept(BATCH)
    assert (test_mode.active, test_mode.suppressed) == (False, False)


def test_allowed_delivery_overrides_suppression() -> None:
    test_mode = TestMode(suppressed=True)
    with test_mode.allow_delivery(), test_mode.suppress_delivery():
        assert not test_mode.intercept(BATCH)
    assert test_mode.suppressed


def test_the_suppression_of_the_environment_ends_with_the_test_run() -> None:
    test_mode = TestMode(suppressed=True)
    for _ in range(2):
        test_mode.end_inherited_suppression()
        assert not test_mode.active
    with test_mode.suppress_delivery():
        test_mode.end_inherited_suppression()
        assert test_mode.suppressed


def test_every_recorder_receives_everything_and_recording_alone_suppresses_nothing() -> None:
    test_mode, first, second = TestMode(), Sink(), Sink()
    with test_mode.add_recorder(first):
        with test_mode.add_recorder(second):
            assert (test_mode.active, test_mode.active_for_tests) == (True, True)
            assert not test_mode.intercept(BATCH)
        test_mode.intercept(Batch(records=RECORDS, context=EMPTY_CONTEXT, drop=DropReason.CONSENT))
    assert first.received == [(RECORDS, None), (RECORDS, DropReason.CONSENT)]
    assert second.received == [(RECORDS, None)]
    assert not test_mode.active


def test_wrong_calls_raise_while_something_records_and_not_inside_lenient() -> None:
    test_mode, strict = TestMode(), []
    with test_mode.suppress_delivery():
        strict.append(test_mode.strict)
    with test_mode.add_recorder(Sink()):
        strict.append(test_mode.strict)
        with test_mode.lenient():
            with test_mode.lenient():
                strict.append(test_mode.strict)
            strict.append(test_mode.strict)
        strict.append(test_mode.strict)
    strict.append(test_mode.strict)
    assert strict == [False, True, False, False, True, False]


def test_an_exception_restores_the_previous_state() -> None:
    test_mode = TestMode()
    for enter in (
        test_mode.suppress_delivery,
        test_mode.allow_delivery,
        test_mode.lenient,
        lambda: test_mode.add_recorder(Sink()),
    ):
        with pytest.raises(LookupError), enter():
            raise LookupError
    assert not test_mode.active
    with test_mode.suppress_delivery():
        assert test_mode.suppressed


def test_a_condition_is_evaluated_for_each_batch_until_it_is_removed() -> None:
    test_mode, answers = TestMode(), [True]
    test_mode.suppress_when(lambda: answers[-1])
    assert test_mode.intercept(BATCH)
    answers.append(False)
    assert not test_mode.intercept(BATCH)
    with test_mode.suppress_delivery():
        assert test_mode.suppressed
    assert test_mode.active
    test_mode.suppress_when(None)
    assert not test_mode.active


def test_a_process_that_is_started_while_delivery_is_allowed_delivers_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TESTING_VARIABLE, "1")
    with TestMode().allow_delivery():
        assert TESTING_VARIABLE not in os.environ
    assert os.environ[TESTING_VARIABLE] == "1"


@pytest.mark.parametrize(
    ("value", "suppressed", "logged"),
    [
        *((value, True, "SESSIONSIGHT_TESTING=") for value in ("1", "true", " YES ", "On")),
        ("inherited", True, ""),
        *((value, False, "") for value in (None, "", "  ", "0", "false", "False", "NO", " off ")),
        *((value, False, "this process delivers") for value in ("n", "none", "production", "2")),
    ],
)
def test_only_a_true_variable_suppresses_delivery_and_it_is_logged(
    value: str | None,
    suppressed: bool,
    logged: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv(TESTING_VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(TESTING_VARIABLE, value)

    assert _is_suppressed_by_environment() is suppressed
    assert logged in caplog.text
    assert bool(caplog.text) == bool(logged)


@pytest.mark.processes
def test_a_process_reads_the_variable_when_it_imports_the_library() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from sessionsight.test_mode import test_mode as t; print(t.active, t.suppressed)"],
        env={**os.environ, TESTING_VARIABLE: "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["True", "True"]
    assert "SESSIONSIGHT_TESTING=1: this process delivers nothing" in done.stderr


def test_no_context_is_resolved_unless_something_records() -> None:
    def fail() -> tuple[TrackingContext, DropReason | None]:
        raise AssertionError

    test_mode = TestMode()
    test_mode.suppress_when(lambda: False)
    assert (test_mode.active, test_mode.active_for_tests) == (True, False)
    assert not test_mode.intercept(Batch(records=RECORDS, context=fail))
    with test_mode.suppress_delivery():
        assert test_mode.intercept(Batch(records=RECORDS, context=fail))
