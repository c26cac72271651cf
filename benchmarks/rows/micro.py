"""Single steps of a request's path: the median that pyperf finds."""

from __future__ import annotations

import subprocess
import sys
import tempfile

import pyperf

from benchmarks.isolated import hand_over
from benchmarks.server import ROOT
from benchmarks.steps import steps
from benchmarks.table import Row


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        output = f"{folder}/steps.json"
        command = [sys.executable, "-m", "benchmarks.steps", "--quiet", "--output", output]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True, timeout=180)
        suite = pyperf.BenchmarkSuite.load(output)
    return [Row(what=name, figure=suite.get_benchmark(name).median() * 1e6, unit="µs") for name in steps()]


if __name__ == "__main__":
    hand_over(measure())
