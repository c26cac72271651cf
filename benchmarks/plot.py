"""Stacked bars as SVG, for a light and a dark background."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

_WIDTH, _LEFT, _RIGHT = 760, 92, 76
_BAR, _GAP, _TOP = 26, 16, 76
_LIGHT = ("#2b5c8a", "#4b8bbf", "#1f7a33", "#9a6a00", "#b8405a", "#6e6e6e")
_DARK = ("#6f9fd0", "#9fd0f0", "#5fb870", "#d9b44a", "#e88796", "#9a9a9a")
_MIN_LABEL = 30
"""Pixels that a segment needs for its figure."""


def stacked_bars(title: str, description: str, bars: Mapping[str, Mapping[str, float]], unit: str) -> str:
    """Return an SVG with one horizontal bar for each name, divided into its parts.

    Args:
        title: Heading of the plot.
        description: Text for readers who do not see the plot.
        bars: Names of the bars to the sizes of their parts. All bars have the same parts, at most six.
        unit: Unit of the sizes.
    """
    parts = list(next(iter(bars.values())))
    scale = (_WIDTH - _LEFT - _RIGHT) / max(sum(bar.values()) for bar in bars.values())
    height = _TOP + len(bars) * (_BAR + _GAP) + 4
    body = [f'<text class="title" x="12" y="24">{escape(title)}</text>', *_legend(parts)]
    for row, (name, bar) in enumerate(bars.items()):
        y = _TOP + row * (_BAR + _GAP)
        middle = y + _BAR / 2 + 4.5
        body.append(f'<text x="{_LEFT - 10}" y="{middle:g}" text-anchor="end">{escape(name)}</text>')
        x = float(_LEFT)
        for number, part in enumerate(parts):
            width = bar[part] * scale
            label = f"{escape(name)}, {escape(part)}: {bar[part]:.1f} {escape(unit)}"
            body.append(
                f'<rect class="p{number}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_BAR}">'
                f"<title>{label}</title></rect>"
            )
            if width >= _MIN_LABEL:
                body.append(f'<text class="in" x="{x + width / 2:.1f}" y="{middle:g}">{bar[part]:.1f}</text>')
            x += width
        body.append(f'<text x="{x + 8:.1f}" y="{middle:g}">{sum(bar.values()):.1f} {escape(unit)}</text>')
    head = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"'
    return "\n".join(
        [
            f'<svg {head} aria-labelledby="title description">',
            f'<title id="title">{escape(title)}</title>',
            f'<desc id="description">{escape(description)}</desc>',
            f"<style>{_style(len(parts))}</style>",
            f'<rect class="page" width="{_WIDTH}" height="{height}" rx="6"/>',
            *body,
            "</svg>\n",
        ]
    )


def _legend(parts: list[str]) -> list[str]:
    found: list[str] = []
    x = 12
    for number, part in enumerate(parts):
        found.append(f'<rect class="p{number}" x="{x}" y="42" width="12" height="12" rx="2"/>')
        found.append(f'<text x="{x + 17}" y="52.5">{escape(part)}</text>')
        x += 17 + 7 * len(part) + 18
    return found


def _style(parts: int) -> str:
    def colours(page: str, text: str, inside: str, fills: tuple[str, ...]) -> str:
        rules = [f".page{{fill:{page}}}", f"text{{fill:{text}}}", f"text.in{{fill:{inside}}}"]
        return "".join([*rules, *(f".p{number}{{fill:{fills[number]}}}" for number in range(parts))])

    font = "text{font:13px system-ui,-apple-system,Segoe UI,Roboto,sans-serif}.title{font-size:15px;font-weight:600}"
    inside = "text.in{font-size:12px;text-anchor:middle}"
    light = colours("#ffffff", "#222222", "#ffffff", _LIGHT)
    dark = colours("#1e2129", "#e3e5ea", "#14161b", _DARK)
    return f"{font}{inside}{light}@media (prefers-color-scheme:dark){{{dark}}}"
