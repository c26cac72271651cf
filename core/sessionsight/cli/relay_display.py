"""Shows the progress of a relay: a table that is updated in place on a terminal, and lines elsewhere."""

from __future__ import annotations

import logging
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import click

from sessionsight.clock import Clock
from sessionsight.errors import escape_control_characters
from sessionsight.log import logger
from sessionsight.relay import LaneProgress

__all__ = ["Display", "display"]

# Seconds between two lines about a lane.
_LINES_EVERY = 10.0
_UP_AND_ERASE = "\x1b[{}F\x1b[J"


class Display(Protocol):
    """Shows snapshots of the lanes and messages."""

    def show(self, lanes: Sequence[LaneProgress], *, last: bool = False) -> None:
        """Show a snapshot.

        Args:
            lanes: The lanes.
            last: The relay has stopped.
        """

    def message(self, text: str) -> None:
        """Show one line."""


@contextmanager
def display(*, clock: Clock = time) -> Iterator[Display]:
    """Yield a display on the standard output."""
    if not sys.stdout.isatty():
        yield _Lines(clock)
        return
    table = _Table(clock)
    handler = _AboveTable(table)
    if not logger.hasHandlers():
        logger.addHandler(handler)
    try:
        yield table
    finally:
        logger.removeHandler(handler)


class _Rates:
    """Records delivered per second since the snapshot before, by all relays."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._before: dict[str, int] = {}
        self._at = clock.monotonic()

    def update(self, lanes: Sequence[LaneProgress]) -> dict[str, float]:
        """Return the rate of each lane."""
        now = self._clock.monotonic()
        seconds = max(now - self._at, 0.001)
        # A ledger starts again if the store was emptied.
        rates = {lane.name: max(lane.delivered - self._before.get(lane.name, 0), 0) / seconds for lane in lanes}
        self._before, self._at = {lane.name: lane.delivered for lane in lanes}, now
        return rates


class _Lines:
    """One line for each lane, now and then, if it has changed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rates = _Rates(clock)
        self._next = 0.0
        self._shown: dict[str, LaneProgress] = {}

    def show(self, lanes: Sequence[LaneProgress], *, last: bool = False) -> None:
        """Show a snapshot; see `Display`."""
        now = self._clock.monotonic()
        if now < self._next and not last:
            return
        self._next = now + _LINES_EVERY
        rates = self._rates.update(lanes)
        for lane in lanes:
            if last or self._shown.get(lane.name) != lane:
                click.echo(
                    f"{lane.name}: {lane.ready:,} ready, {lane.in_flight:,} in flight, {lane.delivered:,} delivered "
                    f"({rates[lane.name]:,.1f}/s), {lane.dead:,} dead; {_state(lane)}"
                )
        self._shown = {lane.name: lane for lane in lanes}

    def message(self, text: str) -> None:
        """Show one line."""
        click.echo(text)


class _Table:
    """A table that replaces the one before."""

    def __init__(self, clock: Clock) -> None:
        self._rates = _Rates(clock)
        self._height = 0
        self._lock = threading.Lock()

    def show(self, lanes: Sequence[LaneProgress], *, last: bool = False) -> None:
        """Show a snapshot; see `Display`."""
        rates = self._rates.update(lanes)
        width = max(map(len, ["lane", *rates]))
        lines = [f"{'lane':<{width}}  {'ready':>11}  in flight    delivered  delivered/s      dead  state"]
        lines += [
            f"{lane.name:<{width}}  {lane.ready:>11,}  {lane.in_flight:>9,}  {lane.delivered:>11,}  "
            f"{rates[lane.name]:>11,.1f}  {lane.dead:>8,}  {_state(lane)}"
            for lane in lanes
        ]
        columns = shutil.get_terminal_size().columns
        self._print("\n".join(line[:columns] for line in lines), height=len(lines))

    def message(self, text: str) -> None:
        """Show one line in place of the table, which the next snapshot shows below it."""
        self._print(text, height=0)

    def _print(self, text: str, *, height: int) -> None:
        with self._lock:
            click.echo((_UP_AND_ERASE.format(self._height) if self._height else "") + text)
            self._height = height


class _AboveTable(logging.Handler):
    """Prints log messages above a table, which they would break otherwise."""

    def __init__(self, table: _Table) -> None:
        super().__init__(logging.INFO)
        self._table = table

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message."""
        self._table.message(self.format(record))


def _state(lane: LaneProgress) -> str:
    return lane.state if lane.last_error is None else f"{lane.state} ({escape_control_characters(lane.last_error)})"
