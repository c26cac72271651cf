"""Cost of an import in a fresh interpreter: with and without it in turn, the median of the differences."""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

from benchmarks.isolated import hand_over
from benchmarks.server import ROOT
from benchmarks.table import Row

PAIRS = 15


def cost(code: str) -> float:
    """Milliseconds that the code takes a fresh interpreter."""
    _run(code)  # its bytecode is written, its files are in memory
    return median(_run(code) - _run("pass") for _ in range(PAIRS)) * 1000


def measure() -> list[Row]:
    rest = "from sessionsight.delivery.httpx_transport import http_library; http_library"
    return [
        Row(what="import sessionsight", figure=cost("import sessionsight"), unit="ms", aim=45),
        Row(what="the same, with the imports of the first delivery", figure=cost(rest), unit="ms"),
    ]


def _run(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    hand_over(measure())
