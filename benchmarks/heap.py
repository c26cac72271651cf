"""How much memory a piece of work leaves taken."""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

_STATM = Path("/proc/self/statm")


def allocated(work: Callable[[], object]) -> int:
    """Bytes that Python's allocators were asked for and still hold after the work."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    work()
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return after - before


def resident(work: Callable[[], object]) -> int | None:
    """Bytes by which the process has grown; None where the system does not tell."""
    if not _STATM.exists():
        return None
    gc.collect()
    before = resident_size()
    work()
    gc.collect()
    return resident_size() - before


def resident_size() -> int:
    """Bytes of this process in memory."""
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
