"""A session's records find their places."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionsight.inspector.timeline import LANES, LEVELS, lay_out
from tests.core.inspector.samples import WINDOW, record


def test_no_records_make_an_empty_timeline() -> None:
    timeline = lay_out([])
    assert (timeline.marks, timeline.lanes, timeline.ticks, timeline.seconds) == ([], [], [], 0)


def test_a_single_record_stands_in_the_middle() -> None:
    timeline = lay_out([record()])
    assert [mark.x for mark in timeline.marks] == [50]
    assert timeline.seconds == 0


def test_windows_are_lanes_in_the_order_in_which_they_open_and_records_without_one_come_last() -> None:
    records = [record(0), record(1, window_id="b"), record(2, window_id="a"), record(3, window_id="b")]
    timeline = lay_out(records)
    assert [(lane.window_id, lane.first, lane.last) for lane in timeline.lanes] == [
        ("b", 1, 3),
        ("a", 2, 2),
        (None, 0, 0),
    ]
    assert [mark.lane for mark in timeline.marks] == [2, 0, 1, 0]


def test_many_windows_share_the_last_lane_of_windows() -> None:
    timeline = lay_out([record(n, window_id=None if n == 4 else f"window {n}") for n in range(20)])
    assert [lane.windows for lane in timeline.lanes] == [1] * (LANES - 1) + [20 - 1 - (LANES - 1), 0]
    assert timeline.marks[19].lane == LANES - 1
    assert timeline.marks[4].lane == LANES


def test_time_runs_evenly_from_left_to_right() -> None:
    timeline = lay_out([record(seconds) for seconds in (0, 10, 20, 30, 40)])
    assert [mark.x for mark in timeline.marks] == pytest.approx([0, 25, 50, 75, 100])
    assert timeline.pauses == []
    assert timeline.seconds == 40


def test_a_long_pause_is_shortened_and_said_to_be_one() -> None:
    timeline = lay_out([record(seconds) for seconds in (0, 10, 20, 30, 3630, 3640, 3650, 3660)])
    [pause] = timeline.pauses
    assert pause.seconds == 3600
    assert pause.end - pause.start < 25
    assert (timeline.marks[3].x, timeline.marks[4].x) == (pause.start, pause.end)


def test_two_records_far_apart_are_shown_as_they_are() -> None:
    timeline = lay_out([record(0), record(3600)])
    assert [mark.x for mark in timeline.marks] == pytest.approx([0, 100])
    assert timeline.pauses == []


def test_records_of_one_moment_are_spread_evenly_when_there_is_nothing_else() -> None:
    assert [mark.x for mark in lay_out([record(), record(), record()]).marks] == pytest.approx([0, 50, 100])


def test_neighbours_are_stacked_on_their_own_side_of_the_lane() -> None:
    at_once = [record(0, side=side) for side in ("browser", "server", "browser", "server", "server")]
    timeline = lay_out([*at_once, *(record(100 + n, side="browser") for n in range(600))])
    assert [mark.level for mark in timeline.marks[:5]] == [0, 0, 1, 1, 2]
    [lane] = timeline.lanes
    assert (lane.above, lane.below) == (LEVELS, 3)


def test_ticks_tell_the_time_of_records_and_keep_their_distance() -> None:
    ticks = lay_out([record(seconds) for seconds in range(200)]).ticks
    assert (ticks[0].x, ticks[0].offset) == (0, 0)
    assert 4 <= len(ticks) <= 6
    assert all(later.x - earlier.x >= 20 for earlier, later in pairwise(ticks))


@given(st.lists(st.floats(0, 1e6), max_size=250), st.lists(st.sampled_from([None, WINDOW, "other"]), min_size=1))
def test_any_session_fits_in_order(gaps: list[float], windows: list[str | None]) -> None:
    seconds = 0.0
    records = []
    for number, gap in enumerate(gaps):
        seconds += gap
        records.append(record(seconds, window_id=windows[number % len(windows)]))
    timeline = lay_out(records)
    places = [mark.x for mark in timeline.marks]
    assert places == sorted(places)
    assert all(-1e-6 <= x <= 100 + 1e-6 for x in places)
    assert all(mark.level < LEVELS for mark in timeline.marks)
    assert sum(pause.end - pause.start for pause in timeline.pauses) <= 100 + 1e-6
