"""The same work through posthog, segment-analytics-python and snowplow-tracker: `make bench-peers`.

The contenders take turns within each group of rows, so that a busy moment of the machine hits all alike.
"""

from __future__ import annotations

from importlib.metadata import version

from benchmarks.contenders.base import NAMES
from benchmarks.isolated import isolated
from benchmarks.rows.peer import GROUPS
from benchmarks.table import Row, heading, side_by_side

DISTRIBUTIONS = {"posthog": "posthog", "segment": "segment-analytics-python", "snowplow": "snowplow-tracker"}


def main() -> None:
    columns: dict[str, list[Row]] = {name: [] for name in NAMES}
    for group in GROUPS:
        for name in NAMES:
            columns[name] += isolated("peer", name, group)
    others = ", ".join(f"{name} {version(name)}" for name in DISTRIBUTIONS.values())
    print(f"\n{heading()}\n{others}\n\n{side_by_side(columns)}")


if __name__ == "__main__":
    main()
