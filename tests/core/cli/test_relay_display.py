"""The progress of a relay, on a terminal and elsewhere."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from sessionsight.cli.relay_display import display
from sessionsight.log import logger as log
from sessionsight.relay import LaneProgress
from tests.support.clock import FrozenClock

SIGNAL = LaneProgress(name="signal", ready=1200, in_flight=40, delivered=0, dead=0, state="closed", last_error=None)
GOALS = replace(SIGNAL, name="goals", ready=0, in_flight=0, dead=2, state="open", last_error="HTTP 503\n")
AFTER = replace(SIGNAL, ready=0, in_flight=0, delivered=1240)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Terminal]:
    """Makes the standard output a terminal and removes the log's handlers, once pytest has set its own."""

    def start() -> Terminal:
        terminal = Terminal()
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setattr(log, "handlers", [])
        monkeypatch.setattr(log, "propagate", False)
        monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((76, 24)))
        return terminal

    return start


def test_lines_are_printed_now_and_then_if_they_have_changed(capsys: pytest.CaptureFixture[str]) -> None:
    clock = FrozenClock()
    with display(clock=clock) as shown:
        shown.message("delivering")
        clock.sleep(1.0)
        shown.show([SIGNAL, GOALS])
        clock.sleep(1.0)
        shown.show([AFTER, GOALS])  # too soon
        clock.sleep(9.0)
        shown.show([AFTER, GOALS])
        shown.show([AFTER], last=True)
    assert capsys.readouterr().out.splitlines() == [
        "delivering",
        "signal: 1,200 ready, 40 in flight, 0 delivered (0.0/s), 0 dead; closed",
        r"goals: 0 ready, 0 in flight, 0 delivered (0.0/s), 2 dead; open (HTTP 503\n)",
        "signal: 0 ready, 0 in flight, 1,240 delivered (124.0/s), 0 dead; closed",
        "signal: 0 ready, 0 in flight, 1,240 delivered (0.0/s), 0 dead; closed",
    ]


def test_no_rate_is_negative_after_a_store_was_emptied(capsys: pytest.CaptureFixture[str]) -> None:
    clock = FrozenClock()
    with display(clock=clock) as shown:
        clock.sleep(1.0)
        shown.show([AFTER])
        clock.sleep(10.0)
        shown.show([replace(AFTER, delivered=3)])
    assert [line.split(", ")[2] for line in capsys.readouterr().out.splitlines()] == [
        "1,240 delivered (1,240.0/s)",
        "3 delivered (0.0/s)",
    ]


def test_a_table_is_replaced_in_place(on_terminal: Callable[[], Terminal]) -> None:
    terminal = on_terminal()
    clock = FrozenClock()
    with display(clock=clock) as shown:
        shown.message("delivering")
        clock.sleep(1.0)
        shown.show([SIGNAL, GOALS])
        log.warning("the vendor is down")
        clock.sleep(1.0)
        shown.show([AFTER, GOALS])
        clock.sleep(1.0)
        shown.show([AFTER, GOALS], last=True)
    head = "lane          ready  in flight    delivered  delivered/s      dead  state\n"
    after = "signal            0          0        1,240          0.0         0  closed\n"
    goals = "goals             0          0            0          0.0         2  open (HT\n"  # cut at the edge
    assert terminal.getvalue() == (
        "delivering\n"
        f"{head}signal        1,200         40            0          0.0         0  closed\n{goals}"
        "\x1b[3F\x1b[Jthe vendor is down\n"
        f"{head}{after.replace('    0.0 ', '1,240.0 ')}{goals}"
        f"\x1b[3F\x1b[J{head}{after}{goals}"
    )
    assert not log.handlers


def test_the_log_of_an_app_is_left_alone(on_terminal: Callable[[], Terminal]) -> None:
    terminal = on_terminal()
    handler = logging.StreamHandler(io.StringIO())
    log.addHandler(handler)
    try:
        with display() as shown:
            shown.show([SIGNAL])
            log.warning("the vendor is down")
        assert "the vendor is down" not in terminal.getvalue()
    finally:
        log.removeHandler(handler)
