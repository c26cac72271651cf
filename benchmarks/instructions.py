"""Count the instructions of a request, by framework: `make bench-instructions`.

Callgrind counts what the threads of a process execute, and writes a file of counts at each mark between two phases.
Unlike a time, the count is nearly the same on a busy machine. It does not include the kernel's work, such as that of
sockets.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.page import publish
from benchmarks.phases import BATCH, split, windows
from benchmarks.rows.requests import AIMS
from benchmarks.server import ROOT
from benchmarks.table import aligned, heading

_WARM_UP, _BATCHES = 2, 3
_TIMEOUT = 1500
_UNIT = "thousands of instructions"
_TOTAL = re.compile(r"^totals: (\d+)", re.MULTILINE)


def serve(framework: str) -> None:
    """Serve requests under Callgrind, and print the names of the windows in their order."""
    names: list[str] = []

    def mark(name: str) -> None:
        os.getsid(0)  # nobody else calls it, so Callgrind writes its counts here
        names.append(name)

    windows(framework, mark, warm_up=_WARM_UP, batches=_BATCHES)
    json.dump(names, sys.stdout)


def count(framework: str) -> dict[str, float]:
    """Return the thousands of instructions of a request in each window.

    Raises:
        RuntimeError: The process has failed twice.
    """
    for attempt in (1, 2):
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            try:
                done = subprocess.run(
                    [
                        *("valgrind", "--tool=callgrind", "--dump-before=getsid"),
                        *(f"--callgrind-out-file={folder}/counts", f"--log-file={folder}/log"),
                        *(sys.executable, "-m", "benchmarks.instructions", framework),
                    ],
                    cwd=ROOT,
                    env={**os.environ, "PYTHONHASHSEED": "0"},
                    stdout=subprocess.PIPE,
                    check=True,
                    timeout=_TIMEOUT,
                )
            except subprocess.SubprocessError as error:
                log = Path(folder, "log")
                last = log.read_text(errors="replace")[-2000:] if log.exists() else ""
                print(f"{framework}, attempt {attempt} failed: {error}\n{last}", file=sys.stderr, flush=True)
                continue
            print(f"counted {framework} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
            names: list[str] = json.loads(done.stdout)
            costs: defaultdict[str, float] = defaultdict(float)
            for number, name in enumerate(names, 1):
                [counted] = _TOTAL.findall(Path(folder, f"counts.{number}").read_text())
                costs[name] += int(counted) / (_BATCHES * BATCH * 1000)
            return costs
    raise RuntimeError(f"{framework}: valgrind has failed twice")


def columns(costs: dict[str, float]) -> list[float]:
    """Return the columns of a framework: the bare app, and over it no capture, and path and total of the others."""
    bare = costs["bare: path"]
    row = [bare, costs["no capture: path"] - bare]
    for case in ("one capture", "one capture, four vendors"):
        path = costs[f"{case}: path"] - bare
        row += [path, path + costs[f"{case}: queue"] + costs[f"{case}: delivery"]]
    return row


def main() -> int:
    if shutil.which("valgrind") is None:
        print("valgrind is missing. On Debian and Ubuntu: apt-get install valgrind", file=sys.stderr)
        return 1
    counts: dict[str, dict[str, float]] = {}
    failed: list[str] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for framework, future in [(framework, pool.submit(count, framework)) for framework in AIMS]:
            try:
                counts[framework] = future.result()
            except RuntimeError as error:
                failed.append(str(error))
    lines = [[name, *(f"{figure:.1f}" for figure in columns(costs))] for name, costs in counts.items()]
    parts = {name: dict(split(costs)) for name, costs in counts.items()}
    part_names = next(iter(parts.values()), {})
    publish(
        "instructions",
        heading(),
        aligned((_UNIT, "bare", "no capture", "one: path", "one: total", "four vendors: path", "total"), lines),
        aligned(
            (_UNIT, *part_names), [[name, *(f"{part:.1f}" for part in some.values())] for name, some in parts.items()]
        ),
        *failed,
    )
    return bool(failed)


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1] in AIMS:
        serve(sys.argv[1])
    else:
        sys.exit(main())
