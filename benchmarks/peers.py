"""The same work through posthog, segment-analytics-python and snowplow-tracker: `make bench-peers`.

The contenders take turns, so that a change in the machine's speed affects all of them.
"""

from __future__ import annotations

from importlib.metadata import version

from benchmarks.contenders.base import NAMES
from benchmarks.isolated import isolated
from benchmarks.page import publish
from benchmarks.rows.peer import GROUPS
from benchmarks.rows.requests import AIMS
from benchmarks.table import Row, heading, side_by_side

DISTRIBUTIONS = {"posthog": "posthog", "segment": "segment-analytics-python", "snowplow": "snowplow-tracker"}


def main() -> None:
    columns: dict[str, list[Row]] = {name: [] for name in NAMES}
    for framework in AIMS:
        for row in isolated("peer_requests", framework):
            columns[row.column].append(row)
    for group in GROUPS:
        for name in NAMES:
            columns[name] += isolated("peer", name, group)
    others = ", ".join(f"{name} {version(name)}" for name in DISTRIBUTIONS.values())
    publish("peers", f"{heading()}; {others}", side_by_side(columns))


if __name__ == "__main__":
    main()
