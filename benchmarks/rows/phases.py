"""Processor time of a captured request by phase, in microseconds: one framework."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from statistics import median

from benchmarks.isolated import hand_over
from benchmarks.phases import BATCH, split, windows
from benchmarks.table import Row

WARM_UP, BATCHES = 5, 60


def measure(framework: str) -> list[Row]:
    costs: defaultdict[str, list[float]] = defaultdict(list)
    last = time.process_time()

    def mark(name: str) -> None:
        nonlocal last
        now = time.process_time()
        costs[name].append(now - last)
        last = time.process_time()

    windows(framework, mark, warm_up=WARM_UP, batches=BATCHES)
    medians = {name: median(some) / BATCH * 1e6 for name, some in costs.items()}
    return [Row(what=part, figure=cost, unit="µs", column=framework) for part, cost in split(medians)]


if __name__ == "__main__":
    hand_over(measure(sys.argv[1]))
