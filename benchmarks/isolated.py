"""Each group of rows is measured in an interpreter of its own, so that none inherits another's threads or heap."""

from __future__ import annotations

import subprocess
import sys
import time

import msgspec

from benchmarks.server import ROOT
from benchmarks.table import Row


def isolated(module: str, *arguments: str, python: str = sys.executable) -> list[Row]:
    """Run a module of `benchmarks.rows`, and read the rows that it prints by `hand_over`."""
    started = time.monotonic()
    print(f"measuring {' '.join([module, *arguments])} ...", end="", file=sys.stderr, flush=True)
    command = [python, "-m", f"benchmarks.rows.{module}", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    print(f" {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return msgspec.json.decode(done.stdout, type=list[Row])


def hand_over(rows: list[Row]) -> None:
    """Give rows to whoever started this interpreter."""
    sys.stdout.buffer.write(msgspec.json.encode(rows))
