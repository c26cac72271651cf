"""Measure what a request costs, and what delivery takes: `make bench`.

Arguments select groups of rows, and `--page` puts the tables into docs/performance.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from benchmarks.isolated import isolated
from benchmarks.page import IMAGE, PUBLISH, publish
from benchmarks.plot import stacked_bars
from benchmarks.rows.growth import LANES
from benchmarks.rows.pending import NUMBERS
from benchmarks.rows.requests import AIMS
from benchmarks.rows.throughput import CASES
from benchmarks.stores import KINDS
from benchmarks.table import Row, busy_heading, heading, side_by_side, table


def steps() -> None:
    rows = [*isolated("micro"), *isolated("paced")]
    for case in CASES:
        rows += isolated("throughput", case)
    rows += [*isolated("spool"), *isolated("memory"), *isolated("imports")]
    publish("steps", heading(), table(rows))


def stores() -> None:
    rows = [row for kind in KINDS for row in isolated("stores", kind)]
    publish("stores", busy_heading(), table(rows))


def pending() -> None:
    columns = {
        f"{number:,}": [row for kind in KINDS for row in isolated("pending", kind, str(number))] for number in NUMBERS
    }
    publish("pending", busy_heading(), side_by_side(columns, what="pending records"))


def growth() -> None:
    columns = {f"{lanes:,}": isolated("growth", str(lanes), "memory") for lanes in LANES}
    columns["100, durable"] = isolated("growth", "100", "sqlite")
    publish("growth", heading(), side_by_side(columns, what="lanes"))


def requests() -> None:
    rows: list[Row] = []
    parts: dict[str, dict[str, float]] = {}
    for framework in AIMS:
        parts[framework] = {row.what: row.figure for row in isolated("phases", framework)}
        found = isolated("requests", framework)
        rows += found
        total = next(row.figure for row in found if row.what == f"{framework}, one capture")
        parts[framework]["threads"] = max(total - sum(parts[framework].values()), 0.0)
    rows += isolated("relay")
    rows += [row for kind in ("postgresql", "mariadb") for row in isolated("transaction", kind)]
    columns = {
        framework: [Row(what=part, figure=figure, unit="µs") for part, figure in some.items()]
        for framework, some in parts.items()
    }
    publish("phases", heading(), side_by_side(columns, what="part of a captured request"))
    if PUBLISH in sys.argv:
        IMAGE.write_text(plot(parts), "utf-8")
    publish("requests", heading(), table(rows))


def plot(parts: dict[str, dict[str, float]]) -> str:
    described = "; ".join(
        f"{framework}: " + ", ".join(f"{part} {figure:.1f}" for part, figure in some.items())
        for framework, some in parts.items()
    )
    return stacked_bars(
        "Processor time of a request with one capture, over the bare app",
        f"Stacked bars in microseconds, {heading()}. {described}.",
        parts,
        "µs",
    )


GROUPS: dict[str, Callable[[], None]] = {
    "steps": steps,
    "growth": growth,
    "requests": requests,
    "stores": stores,
    "pending": pending,
}
# The others take minutes.
DEFAULT = ("steps", "growth", "requests", "stores")


def main() -> None:
    selected = [name for name in sys.argv[1:] if name != PUBLISH]
    unknown = [name for name in selected if name not in GROUPS]
    if unknown:
        sys.exit(f"unknown group {unknown[0]}; there are {', '.join(GROUPS)}")
    for name in selected or DEFAULT:
        GROUPS[name]()


if __name__ == "__main__":
    main()
