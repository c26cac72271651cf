"""Layout of a session's timeline: time from left to right, a row for each browser window.

A pure function from records to positions in percent of the width. Time is to scale, except that a long gap is
compressed and marked as such, so that an hour without records does not reduce the rest to a single dot. Records of the
same moment are stacked: the browser's above their row, the server's below.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from msgspec import Struct

from sessionsight.inspector.model import InspectedRecord

__all__ = ["LANES", "LEVELS", "CompressedGap", "Marker", "Tick", "Timeline", "TimelineRow", "lay_out"]

LANES = 6
"""Most rows of windows. If there are more windows, the last ones share a row."""
LEVELS = 5
"""Most levels of stacked records on a side of a row."""
_PAUSE = 0.2
"""Largest share of the width for a gap."""
_SPREAD = 0.25
"""Share of the width that is distributed evenly, to keep neighbours apart."""
_NEIGHBOURS = 1.35
"""Smallest distance of two markers in percent at which they do not overlap."""
_LABELS = 20.0
"""Smallest distance of two labels in percent at which they do not overlap on a phone."""


class TimelineRow(Struct, frozen=True):
    """Row of a browser window, or of the records without window."""

    window_id: str | None
    windows: int
    """Number of windows in the row: usually 1, more in the last row, 0 for records without window."""
    first: int
    """Index of its first marker."""
    last: int
    above: int
    """Levels of the browser's markers."""
    below: int
    """Levels of the server's markers."""


class Marker(Struct, frozen=True):
    """Position of a record."""

    record: InspectedRecord
    lane: int
    x: float
    """Percent of the width, 0 to 100."""
    level: int
    """Distance from the line in levels, starting at 0."""
    offset: float
    """Seconds since the first record."""


class CompressedGap(Struct, frozen=True):
    """Gap without records that is narrower than to scale."""

    start: float
    end: float
    """Percent of the width."""
    seconds: float


class Tick(Struct, frozen=True):
    """Position on the axis, and its time."""

    x: float
    offset: float


class Timeline(Struct, frozen=True):
    """Layout of a session."""

    lanes: list[TimelineRow]
    marks: list[Marker]
    pauses: list[CompressedGap]
    ticks: list[Tick]
    seconds: float
    """Seconds from the first record to the last."""


def lay_out(records: Sequence[InspectedRecord]) -> Timeline:
    """Lay out the records of a session.

    Args:
        records: In the order in which they occurred. Without records, the timeline is empty.

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
    marks: list[Marker] = []
    ends: dict[tuple[int, str, int], float] = {}
    for record, x, offset in zip(records, places, offsets, strict=True):
        lane = lane_of[record.window_id]
        level = 0
        while level < LEVELS - 1 and x - ends.get((lane, record.side, level), -100.0) < _NEIGHBOURS:
            level += 1
        ends[lane, record.side, level] = x
        marks.append(Marker(record, lane, x, level, offset))
    lanes = [_lane(number, marks) for number in range(max(lane_of.values()) + 1)]
    return Timeline(lanes, marks, pauses, _ticks(marks), offsets[-1])


def _lanes(records: Sequence[InspectedRecord]) -> dict[str | None, int]:
    """Return the row of each window in order of appearance; records without window are in the last row."""
    seen = dict.fromkeys(record.window_id for record in records)
    windows = [window for window in seen if window is not None]
    lane_of: dict[str | None, int] = {window: min(number, LANES - 1) for number, window in enumerate(windows)}
    if None in seen:
        lane_of[None] = min(len(windows), LANES)
    return lane_of


def _lane(number: int, marks: Sequence[Marker]) -> TimelineRow:
    own = [index for index, mark in enumerate(marks) if mark.lane == number]
    windows = {marks[index].record.window_id for index in own} - {None}
    depth = {"browser": 0, "server": 0}
    for index in own:
        side = marks[index].record.side
        depth[side] = max(depth.get(side, 0), marks[index].level + 1)
    first, last = own[0], own[-1]
    return TimelineRow(marks[first].record.window_id, len(windows), first, last, depth["browser"], depth["server"])


def _places(offsets: Sequence[float]) -> tuple[list[float], list[CompressedGap]]:
    """Return the position of each record, and the compressed gaps."""
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
            pauses.append(CompressedGap(places[-2], places[-1], gap))
    return places, pauses


def _longest(gaps: Sequence[float]) -> float:
    """Return the longest drawn gap, such that no gap takes more than its share of the width."""
    share = max(_PAUSE, min(1.5 / len(gaps), 1.0))
    descending = sorted(gaps, reverse=True)
    compressed = 0  # few iterations: after 1 / share gaps are compressed, the next one fits
    while descending[compressed] > (longest := share * sum(descending[compressed:]) / (1 - compressed * share)):
        compressed += 1
    return longest


def _ticks(marks: Sequence[Marker]) -> list[Tick]:
    """Return the times of as many records as there is room for, starting with the first."""
    ticks: list[Tick] = []
    for mark in marks:
        if not ticks or mark.x - ticks[-1].x >= _LABELS:
            ticks.append(Tick(mark.x, mark.offset))
    return ticks
