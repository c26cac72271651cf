"""Measure what a request pays, and what delivery takes, and print it as one table: `make bench`."""

from __future__ import annotations

from benchmarks.isolated import isolated
from benchmarks.rows.requests import AIMS
from benchmarks.rows.throughput import CASES
from benchmarks.table import heading, table


def main() -> None:
    rows = [*isolated("micro"), *isolated("paced")]
    for framework in AIMS:
        rows += isolated("requests", framework)
    for case in CASES:
        rows += isolated("throughput", case)
    rows += [*isolated("spool"), *isolated("memory"), *isolated("imports")]
    print(f"\n{heading()}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
