"""Small charts as inline SVG: numbers in, markup out.

Positions are percentages and everything visual is a class, so that a chart fits any width, follows the theme,
and needs neither a script nor a style attribute, which the page's Content-Security-Policy would refuse.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

__all__ = ["bars", "bounds", "height_of", "meter", "proportions", "round_steps", "steps"]

_BARS = Markup('<svg class="bars" width="100%" height="{height}" role="img" aria-label="{label}">{body}</svg>')
_BAR = Markup(
    '<rect class="{kind}" x="{x}%" y="{y}%" width="{width}%" height="{height}%"{round}><title>{title}</title></rect>'
)
_LINE = Markup('<line class="{kind}" x1="0" x2="100%" y1="{y}%" y2="{y}%"/>')
_CURVE = Markup(
    '<svg class="curve" width="100%" height="{height}" role="img" aria-label="{label}">{grid}'
    '<svg width="100%" height="100%" viewBox="0 0 1000 100" preserveAspectRatio="none">'
    '<path class="area" d="{line}V{base}H{start}Z"/><path class="line" d="{line}" vector-effect="non-scaling-stroke"/>'
    "</svg></svg>"
)
_STRIP = Markup('<svg class="strip" width="100%" height="{height}" role="img" aria-label="{label}">{body}</svg>')
_NOTHING = Markup("")
_LAST = 985  # of 1000: room to see what the last step leads to


def bars(series: Sequence[tuple[float, float]], *, label: str, titles: Sequence[str] = (), height: int = 56) -> Markup:
    """Stacked bars: the good number below, the bad one on top of it.

    Args:
        series: Pairs of numbers, from left to right.
        label: What is shown, for those who listen.
        titles: What each bar says when it is pointed at.
        height: In pixels; the width is all there is.
    """
    highest = max((good + bad for good, bad in series), default=0) or 1
    step = 100 / max(len(series), 1)
    body: list[Markup] = []
    for index, (good, bad) in enumerate(series):
        top = 100.0
        for kind, value in (("good", good), ("bad", bad)):
            if value <= 0:
                continue
            share = max(100 * value / highest, 4.0)  # one among thousands can still be seen
            top -= share
            body.append(
                _BAR.format(
                    kind=kind,
                    x=_number(index * step + step * 0.1),
                    y=_number(max(top, 0.0)),
                    width=_number(step * 0.8),
                    height=_number(share),
                    round=Markup(' rx="1"'),
                    title=titles[index] if index < len(titles) else "",
                )
            )
    return _BARS.format(height=height, label=label, body=_NOTHING.join(body))


def steps(points: Sequence[tuple[float, float]], *, label: str, height: int = 40, grid: Sequence[float] = ()) -> Markup:
    """A total over time, which stays what it is until it changes.

    Args:
        points: Time and total, in order. One point makes a level line.
        label: What is shown, for those who listen.
        height: In pixels.
        grid: Totals at which a line is drawn.
    """
    if not points:
        return _CURVE.format(height=height, label=label, grid="", line="M0 100", base=100, start=0)
    low, high = bounds(points)
    first, last = points[0][0], points[-1][0]
    width = last - first

    path = [f"M0 {_number(height_of(points[0][1], low, high))}"]
    for time, total in points[1:]:
        across = _LAST * (time - first) / width if width > 0 else _LAST
        path.append(f"H{_number(across)}V{_number(height_of(total, low, high))}")
    path.append("H1000")
    lines = _NOTHING.join(
        _LINE.format(kind="grid zero" if total == 0 else "grid", y=_number(height_of(total, low, high)))
        for total in grid
        if low <= total <= high
    )
    return _CURVE.format(
        height=height, label=label, grid=lines, line="".join(path), base=_number(height_of(0.0, low, high)), start=0
    )


def height_of(total: float, low: float, high: float) -> float:
    """Where a total stands between the lowest and the highest, in percent from the top."""
    return 96 - 92 * (total - low) / (high - low)


def bounds(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The lowest and the highest total of a chart, with zero among what is shown."""
    totals = [total for _, total in points]
    low, high = min(0.0, *totals), max(0.0, *totals)
    return (low, high) if high > low else (low, low + 1)


def round_steps(low: float, high: float, count: int = 4, *, whole: bool = False) -> list[float]:
    """Return round numbers between two others as the lines of a chart, with at most `count` steps.

    Args:
        low: The lowest.
        high: The highest.
        count: How many steps there are at most.
        whole: Whether only whole numbers make sense, as of things that are counted.

    Example:
        >>> round_steps(0, 180)
        [0.0, 50.0, 100.0, 150.0]
    """
    if not high > low:
        return [low]
    rough = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough * (1 - 1e-9))
    step = max(step, 1.0) if whole else step
    start = math.ceil(low / step - 1e-9)
    return [index * step for index in range(start, math.floor(high / step + 1e-9) + 1)]


def meter(value: float, highest: float, *, kind: str, label: str) -> Markup:
    """A bar as long as its share of the highest value."""
    share = 100 * min(max(value, 0.0) / highest, 1.0) if highest > 0 else 0.0
    bar = _BAR.format(
        kind=kind, x=0, y=0, width=_number(max(share, 0.5)), height=100, round=Markup(' rx="2"'), title=label
    )
    return _STRIP.format(height=6, label=label, body=bar)


def proportions(parts: Mapping[str, float], *, names: Mapping[str, str]) -> Markup:
    """One bar that is divided among its parts.

    Args:
        parts: The class that colours a part, and how much it is. Those of nothing are left out.
        names: What the parts are called, for those who point at one, or listen.
    """
    total = sum(value for value in parts.values() if value > 0)
    body: list[Markup] = []
    x = 0.0
    for kind, value in parts.items():
        if value <= 0:
            continue
        width = 100 * value / total
        body.append(
            _BAR.format(
                kind=kind,
                x=_number(x),
                y=0,
                width=_number(width),
                height=100,
                round="",
                title=f"{names[kind]} {value:g}",
            )
        )
        x += width
    label = ", ".join(f"{names[kind]} {value:g}" for kind, value in parts.items() if value > 0)
    return _STRIP.format(height=6, label=label, body=_NOTHING.join(body))


def _number(value: float) -> str:
    """A coordinate, with no more digits than a screen can show."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
