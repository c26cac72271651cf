"""Who takes what clients hand over, in a test; on a switch of its own, since this suite's delivers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sessionsight.collector import Batch
from sessionsight.context import EMPTY_CONTEXT, TrackingContext
from sessionsight.diversion import VARIABLE, Diversion
from sessionsight.records import DropReason, Event, Record

RECORDS: list[Record] = [Event(name="seen", entropy=b"0123456789", time=0)]
BATCH = Batch(RECORDS, EMPTY_CONTEXT)
REFUSED = Batch(RECORDS, EMPTY_CONTEXT, drop=DropReason.CONSENT)
BATCH = Batch(records=RECORDS, context=EMPTY_CONTEXT)


class Heap:
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[list[Record], DropReason | None]] = []

    def submit(self, context: TrackingContext, records: object, drop: DropReason | None) -> None:
        assert isinstance(records, list)
        self.shown.append((records, drop))


def test_outside_tests_nobody_needs_to_be_asked() -> None:
    assert not Diversion().on
    assert not Diversion().held


def test_what_is_held_is_not_delivered_until_all_who_hold_have_let_go() -> None:
    diversion = Diversion()
    with diversion.hold():
        with diversion.hold():
            assert diversion.take(BATCH)
        assert diversion.take(BATCH)
    assert (diversion.on, diversion.held) == (False, False)


def test_whoever_asks_for_delivery_gets_it() -> None:
    diversion = Diversion(held=True)
    with diversion.deliver(), diversion.hold():
        assert not diversion.take(BATCH)
    assert diversion.held


def test_all_who_look_see_everything_and_looking_holds_nothing() -> None:
    diversion, first, second = Diversion(), Heap(), Heap()
    with diversion.show(first):
        with diversion.show(second):
            assert (diversion.on, diversion.under_test) == (True, True)
            assert not diversion.take(BATCH)
        diversion.take(Batch(records=RECORDS, context=EMPTY_CONTEXT, drop=DropReason.CONSENT))
    assert first.shown == [(RECORDS, None), (RECORDS, DropReason.CONSENT)]
    assert second.shown == [(RECORDS, None)]
    assert not diversion.on


def test_an_exception_lets_go() -> None:
    diversion = Diversion()
    for enter in (diversion.hold, diversion.deliver, lambda: diversion.show(Heap())):
        with pytest.raises(LookupError), enter():
            raise LookupError
    assert not diversion.on
    with diversion.hold():
        assert diversion.held


def test_a_condition_is_asked_each_time() -> None:
    diversion, answers = Diversion(), [True]

    def condition() -> bool:
        return answers[-1]

    diversion.hold_while(condition)
    diversion.hold_while(condition)
    assert diversion.take(BATCH)
    answers.append(False)
    assert not diversion.take(BATCH)
    with diversion.hold():
        assert diversion.held
    assert diversion.on


def test_a_process_that_is_started_meanwhile_delivers_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    with Diversion().deliver():
        assert VARIABLE not in os.environ
    assert os.environ[VARIABLE] == "1"


@pytest.mark.parametrize(("value", "held"), [("pytest", True), (None, False)])
def test_the_environment_says_how_a_process_begins(value: str | None, held: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from sessionsight.diversion import diversion as d; print(d.on, d.held)"],
        env={name: text for name, text in {**os.environ, VARIABLE: value}.items() if text is not None},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == [str(held), str(held)]


def test_where_nobody_looks_no_context_is_worked_out() -> None:
    def fail() -> tuple[TrackingContext, DropReason | None]:
        raise AssertionError

    diversion = Diversion()
    diversion.hold_while(lambda: False)
    assert (diversion.on, diversion.under_test) == (True, False)
    assert not diversion.take(Batch(records=RECORDS, context=fail))
    with diversion.hold():
        assert diversion.take(Batch(records=RECORDS, context=fail))
