"""Charts are well-formed SVG that needs neither styles nor scripts."""

from collections.abc import Iterable
from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from sessionsight.inspector import charts

HOSTILE = '"><script>alert(1)</script>'


def parsed(markup: Markup) -> Element:
    root = fromstring(markup)
    assert not any("style" in element.attrib for element in root.iter())
    return root


def rects(markup: Markup, kind: str | None = None) -> list[Element]:
    return [element for element in parsed(markup).iter("rect") if kind in {None, element.get("class")}]


def percent(elements: Iterable[Element], name: str) -> list[float]:
    return [float(element.attrib[name].removesuffix("%")) for element in elements]


def test_bars_are_as_high_as_their_share_and_the_bad_ones_stand_on_the_good_ones() -> None:
    drawn = charts.bars([(10, 0), (5, 5), (0, 0)], label="records")
    assert percent(rects(drawn, "good"), "height") == [100, 50]
    assert percent(rects(drawn, "bad"), "height") == [50]
    assert percent(rects(drawn, "bad"), "y") == [0]
    assert percent(rects(drawn, "good"), "y") == [0, 50]


def test_one_among_thousands_can_be_seen() -> None:
    assert percent(rects(charts.bars([(5000, 1)], label="records"), "bad"), "height") == [4]


def test_nothing_makes_an_empty_chart() -> None:
    assert rects(charts.bars([], label="records")) == []
    assert rects(charts.bars([(0, 0)], label="records")) == []
    assert rects(charts.proportions({"signal": 0}, names={})) == []
    assert parsed(charts.steps([], label="total")).find(".//path") is not None


def test_labels_and_titles_are_escaped() -> None:
    drawn = charts.bars([(1, 0)], label=HOSTILE, titles=[HOSTILE])
    assert parsed(drawn).get("aria-label") == HOSTILE
    assert [title.text for title in parsed(drawn).iter("title")] == [HOSTILE]
    assert "<script" not in drawn


def test_a_total_stays_what_it_is_until_it_changes() -> None:
    line = next(
        path
        for path in parsed(charts.steps([(0, 0), (5, 10), (10, 5)], label="t")).iter("path")
        if path.get("class") == "line"
    )
    assert line.get("d") == "M0 96H492.5V4H985V50H1000"


def test_grid_lines_stand_where_their_totals_are() -> None:
    lines = list(parsed(charts.steps([(0, 0), (1, 200)], label="t", grid=[0, 100, 200, 300])).iter("line"))
    assert percent(lines, "y1") == [96, 50, 4]
    assert [line.get("class") for line in lines] == ["grid zero", "grid", "grid"]


def test_zero_is_always_in_sight() -> None:
    assert charts.bounds([(0, 5), (1, 9)]) == (0, 9)
    assert charts.bounds([(0, -5), (1, -9)]) == (-9, 0)
    assert charts.bounds([(0, 0)]) == (0, 1)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 180, [0, 50, 100, 150]),
        (0, 4, [0, 1, 2, 3, 4]),
        (-12, 30, [0, 20]),
        (0, 0.3, [0, 0.1, 0.2, 0.3]),
        (3, 3, [3]),
    ],
)
def test_scales_have_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert charts.round_steps(low, high) == pytest.approx(expected)


def test_what_is_counted_has_no_steps_between_whole_numbers() -> None:
    assert charts.round_steps(0, 1, whole=True) == [0, 1]
    assert charts.round_steps(0, 180, whole=True) == [0, 50, 100, 150]


@given(st.floats(-1e9, 1e9), st.floats(0.01, 1e9))
def test_scales_are_within_their_bounds_and_never_long(low: float, width: float) -> None:
    steps = charts.round_steps(low, low + width)
    assert len(steps) <= 6
    assert all(low - width * 1e-6 <= step <= low + width * (1 + 1e-6) for step in steps)


def test_proportions_fill_the_whole_width() -> None:
    drawn = charts.proportions(
        {"signal": 3, "saytics": 0, "analyse": 1}, names={"signal": "Signal", "analyse": HOSTILE}
    )
    assert parsed(drawn).get("aria-label") == f"Signal 3, {HOSTILE} 1"
    assert [title.text for title in parsed(drawn).iter("title")] == ["Signal 3", f"{HOSTILE} 1"]
    parts = rects(drawn)
    assert [part.get("class") for part in parts] == ["signal", "analyse"]
    assert percent(parts, "x") == [0, 75]
    assert percent(parts, "width") == [75, 25]


@pytest.mark.parametrize(("value", "highest", "width"), [(5, 10, 50), (20, 10, 100), (0, 10, 0.5), (1, 0, 0.5)])
def test_a_meter_shows_its_share_and_a_trace_of_nothing(value: float, highest: float, width: float) -> None:
    assert percent(rects(charts.meter(value, highest, kind="signal", label="p50")), "width") == [width]
