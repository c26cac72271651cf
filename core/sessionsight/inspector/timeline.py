"""How a session is laid out: time from left to right, a lane for each browser window.

Pure: records in, positions out, in percent of the width. Time is to scale, except that a long pause is
shortened and said to be one, so that a purchase after an hour of lunch does not press all that came before
into a single dot. Records of the same moment are stacked: the browser's above their lane, the server's below.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from msgspec import Struct

from sessionsight.inspector.model import InspectedRecord

__all__ = ["LANES", "LEVELS", "Lane", "Mark", "Pause", "Tick", "Timeline", "lay_out"]

LANES = 6
"""How many lanes windows have; when there are more windows, those that open last share one."""
LEVELS = 5
"""How many records are stacked on a side of a lane before they share a place."""
_PAUSE = 0.2
"""The largest share of the width that nothing happening may take."""
_SPREAD = 0.25
"""The share of the width that is dealt out evenly, so that neighbours can be told apart."""
_NEIGHBOURS = 1.35
"""Closer than this, in percent, two marks would cover each other."""
_LABELS = 20.0
"""Closer than this, in percent, two labels would, on a phone."""


class Lane(Struct, frozen=True):
    """A browser window, or the records that came without one."""

    window_id: str | None
    windows: int
    """How many windows share it: 1, but for the last lane of many, and for none 0."""
    first: int
    """The number of its first mark, from 0."""
    last: int
    above: int
    """How many levels the browser's marks take."""
    below: int
    """How many levels the server's marks take."""


class Mark(Struct, frozen=True):
    """A record in its place."""

    record: InspectedRecord
    lane: int
    x: float
    """Percent of the width, 0 to 100."""
    level: int
    """0 beside the line; each further one a step away from it."""
    offset: float
    """Seconds since the first record."""


class Pause(Struct, frozen=True):
    """A stretch without records that takes less room than its time would."""

    start: float
    end: float
    """Percent of the width."""
    seconds: float


class Tick(Struct, frozen=True):
    """A place on the axis, and the time there."""

    x: float
    offset: float


class Timeline(Struct, frozen=True):
    """A session, laid out."""

    lanes: list[Lane]
    marks: list[Mark]
    pauses: list[Pause]
    ticks: list[Tick]
    seconds: float
    """From the first record to the last."""


def lay_out(records: Sequence[InspectedRecord]) -> Timeline:
    """Give each record of a session its place.

    Args:
        records: In the order in which they occurred. None at all gives an empty timeline.

    Example:
        >>> lay_out([]).marks
        []
    """
    if not records:
        return Timeline([], [], [], [], 0.0)
    start = records[0].occurred_at
    offsets = [record.occurred_at - start for record in records]
    places, pauses = _places(offsets)
    lane_of = _lanes(records)
    marks: list[Mark] = []
    ends: dict[tuple[int, str, int], float] = {}
    for record, x, offset in zip(records, places, offsets, strict=True):
        lane = lane_of[record.window_id]
        level = 0
        while level < LEVELS - 1 and x - ends.get((lane, record.side, level), -100.0) < _NEIGHBOURS:
            level += 1
        ends[lane, record.side, level] = x
        marks.append(Mark(record, lane, x, level, offset))
    lanes = [_lane(number, marks) for number in range(max(lane_of.values()) + 1)]
    return Timeline(lanes, marks, pauses, _ticks(marks), offsets[-1])


def _lanes(records: Sequence[InspectedRecord]) -> dict[str | None, int]:
    """The lane of each window, in the order in which they appear; that of records without one is the last."""
    seen = dict.fromkeys(record.window_id for record in records)
    windows = [window for window in seen if window is not None]
    lane_of: dict[str | None, int] = {window: min(number, LANES - 1) for number, window in enumerate(windows)}
    if None in seen:
        lane_of[None] = min(len(windows), LANES)
    return lane_of


def _lane(number: int, marks: Sequence[Mark]) -> Lane:
    own = [index for index, mark in enumerate(marks) if mark.lane == number]
    windows = {marks[index].record.window_id for index in own} - {None}
    depth = {"browser": 0, "server": 0}
    for index in own:
        side = marks[index].record.side
        depth[side] = max(depth.get(side, 0), marks[index].level + 1)
    first, last = own[0], own[-1]
    return Lane(marks[first].record.window_id, len(windows), first, last, depth["browser"], depth["server"])


def _places(offsets: Sequence[float]) -> tuple[list[float], list[Pause]]:
    """Where each record stands, and which pauses were shortened."""
    gaps = [max(later - earlier, 0.0) for earlier, later in pairwise(offsets)]
    if not gaps:
        return [50.0], []
    longest = _longest(gaps)
    shown = [min(gap, longest) for gap in gaps]
    total = sum(shown)
    even = 1 / len(gaps)
    places, pauses = [0.0], []
    for gap, width in zip(gaps, shown, strict=True):
        share = _SPREAD * even + (1 - _SPREAD) * width / total if total else even
        places.append(places[-1] + 100 * share)
        if gap > width * 1.5:
            pauses.append(Pause(places[-2], places[-1], gap))
    return places, pauses


def _longest(gaps: Sequence[float]) -> float:
    """How long a gap is drawn at most, so that none takes more than its share of what is drawn."""
    share = max(_PAUSE, min(1.5 / len(gaps), 1.0))
    descending = sorted(gaps, reverse=True)
    longest = 0.0
    for number, gap in enumerate(descending):  # a few at most: when 1 / share gaps are cut, the next one fits
        longest = share * sum(descending[number:]) / (1 - number * share)
        if gap <= longest:
            break
    return longest


def _ticks(marks: Sequence[Mark]) -> list[Tick]:
    """The times of some records, as many as there is room for, from the first one on."""
    ticks: list[Tick] = []
    for mark in marks:
        if not ticks or mark.x - ticks[-1].x >= _LABELS:
            ticks.append(Tick(mark.x, mark.offset))
    return ticks
