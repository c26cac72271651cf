"""Count the instructions of a request, per framework: `make bench-instructions`.

Valgrind counts what all threads of a process execute, delivery included. The figure is the difference of a long and a
short run, divided by the difference of their requests, so start and end of the process cancel out. Unlike a time, it is
nearly the same on a busy machine. Under valgrind a process is some thirty times slower, so records linger until they
fill a call, as they do on a busy server.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from itertools import product

from benchmarks.apps.kinds import Look, nothing
from benchmarks.rows.requests import AIMS, capture
from benchmarks.server import ROOT, running
from benchmarks.table import aligned
from benchmarks.vendors import Destinations, all_four, analyse

_SHORT, _LONG = 200, 1200
_FOREVER = 3600.0
_PATIENCE = 300.0
# A case's name, its vendors and what its view does.
CASES: dict[str, tuple[Callable[[str], Destinations], Look | None]] = {
    "no capture": (analyse, None),
    "one capture": (analyse, capture),
    "one capture, four vendors": (all_four, capture),
}


def serve(framework: str, case: str, requests: int, url: str) -> None:
    """Serve requests and deliver what they captured."""
    app = import_module(f"benchmarks.apps.{framework}")
    if case == "bare":
        app.bare(nothing)(requests)
        return
    destinations, look = CASES[case]
    served, flush = app.ours(destinations(url), look, linger=_FOREVER)
    served(requests)
    flush(_PATIENCE)


def instructions(framework: str, case: str, requests: int, url: str) -> int:
    """Return the number of instructions of a process that serves this number of requests."""
    done = subprocess.run(
        [
            *("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"),
            *(sys.executable, "-m", "benchmarks.instructions", framework, case, str(requests), url),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    [counted] = re.findall(r"I\s+refs:\s+([\d,]+)", done.stderr)
    return int(counted.replace(",", ""))


def per_request(framework: str, case: str, url: str) -> float:
    """Return the thousands of instructions of one more request."""
    more = instructions(framework, case, _LONG, url) - instructions(framework, case, _SHORT, url)
    return more / (_LONG - _SHORT) / 1000


def main() -> None:
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is missing. On Debian and Ubuntu: apt-get install valgrind")
    with running() as url, ThreadPoolExecutor(os.cpu_count()) as pool:
        figures = {pair: pool.submit(per_request, *pair, url) for pair in product(AIMS, ("bare", *CASES))}
        lines: list[list[str]] = []
        for framework in AIMS:
            bare = figures[framework, "bare"].result()
            lines.append(
                [framework, f"{bare:.1f}", *(f"+{figures[framework, case].result() - bare:.1f}" for case in CASES)]
            )
    print(aligned(("thousands of instructions a request", "bare", *CASES), lines))


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
