"""Rows, and the table they are printed as."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One figure. With an aim, it is met when the figure is not above it; with `at_least`, not below it."""

    what: str
    figure: float
    unit: str
    column: str = ""
    """Where rows of several columns are measured together."""
    aim: float | None = None
    at_least: bool = False

    @property
    def shown(self) -> str:
        return f"{amount(self.figure)} {self.unit}"

    @property
    def verdict(self) -> str:
        if self.aim is None:
            return ""
        return "met" if (self.figure >= self.aim if self.at_least else self.figure <= self.aim) else "MISSED"

    @property
    def mark(self) -> str:
        return "" if self.aim is None else f"{'≥' if self.at_least else '≤'} {amount(self.aim)} {self.verdict}"


def amount(figure: float) -> str:
    """Three digits are all that a measurement is worth."""
    rounded = float(f"{figure:.3g}")
    size = abs(rounded)
    return f"{rounded:,.0f}" if size >= 100 else f"{rounded:.1f}" if size >= 10 else f"{rounded:.2f}"


def heading() -> str:
    """When this was measured, and on what."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"sessionsight, {today()}, {python}, {machine()}"


def busy_heading() -> str:
    """The same with the load, for figures that depend on other programs: those of servers, and of a disk."""
    return f"{heading()}, load average {os.getloadavg()[1]:.1f}"


def today() -> str:
    return str(datetime.now(tz=UTC).date())


def machine() -> str:
    """The class of this machine."""
    cpuinfo = Path("/proc/cpuinfo")
    virtual = cpuinfo.exists() and "hypervisor" in cpuinfo.read_text()
    architecture = platform.machine().replace("_", "-")
    return f"{os.cpu_count()}-core {architecture} {'cloud machine' if virtual else 'machine'}, {platform.system()}"


def aligned(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table that reads well in a terminal too; all columns but the first to the right."""
    cells = [list(head), *map(list, lines)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]

    def row(line: Sequence[str]) -> str:
        first, *others = zip(line, widths, strict=True)
        return f"| {' | '.join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)])} |"

    return "\n".join([row(cells[0]), row(rule), *map(row, cells[1:])])


def table(rows: Iterable[Row]) -> str:
    """Each figure beside its aim."""
    return aligned(("what", "figure", "aim"), ((row.what, row.shown, row.mark) for row in rows))


def side_by_side(columns: dict[str, list[Row]], what: str = "what") -> str:
    """A row for each figure that anybody has, in the order of the first column, and a column for each contender."""
    order = dict.fromkeys((row.what, row.unit) for rows in columns.values() for row in rows)
    found = {
        name: {row.what: f"{amount(row.figure)} {row.verdict}".rstrip() for row in rows}
        for name, rows in columns.items()
    }
    lines = [[f"{row}, {unit}", *(found[name].get(row, "-") for name in columns)] for row, unit in order]
    return aligned((what, *columns), lines)
