"""How time is taken: pairs of runs, calls at a steady pace, and the processor's time."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from statistics import median, quantiles
from typing import Any, NamedTuple, Protocol

_clock = time.perf_counter_ns
# Nanoseconds before a call in which its thread only spins, so that the call finds the processor awake.
_SPIN = 300_000

# Long enough for the clock not to matter, short enough to end, as a rule, before anybody else
# wants the processor.
PAIRS = 300
REQUESTS = 50
# Rounds that are not counted.
WARM_UP = 2

Clock = Callable[[], float]


class Serve(Protocol):
    """Serves a number of requests."""

    def __call__(self, number: int, clock: Clock = ...) -> float:
        """Return the difference of the clock between the start of the first and the end of the last."""


def overhead(bare: Serve, served: Serve, settle: Callable[[], object], *, pairs: int = PAIRS) -> float:
    """Additional time of a request over the bare one, in microseconds: the median of differences, A B A B ...

    Args:
        bare: Serves requests without us.
        served: Serves the same requests with us.
        settle: Waits until nothing of the last run is left to do; not timed.
        pairs: How many differences are taken.
    """
    differences: list[float] = []
    for _ in range(pairs + 3):
        without = bare(REQUESTS)
        differences.append(served(REQUESTS) - without)
        settle()
    return median(differences[3:]) / REQUESTS * 1e6


def processor_over(bare: str, works: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, float]:
    """Return the processor time of each work over the bare one, in seconds, of all threads: the median of differences.

    The works take turns, forwards in one round and backwards in the next, so that a change in the machine's speed
    affects all of them.

    Args:
        bare: Name of the work that is subtracted from the others.
        works: Names to works.
        rounds: How often each runs, after the `WARM_UP`.
    """
    differences: dict[str, list[float]] = {name: [] for name in works if name != bare}
    for turn in range(rounds + WARM_UP):
        names = list(works) if turn % 2 else list(works)[::-1]
        took = {name: used(works[name]).processor for name in names}
        if turn >= WARM_UP:
            for name, taken in differences.items():
                taken.append(took[name] - took[bare])
    return {name: median(taken) for name, taken in differences.items()}


class Calls(NamedTuple):
    """Durations of single calls, in microseconds."""

    p50: float
    p99: float


def paced(
    prepare: Callable[[], Any], call: Callable[[Any], object], finish: Callable[[Any], object], *, rate: int, calls: int
) -> Calls:
    """Make calls at a steady rate, waiting busily for each one's moment, and time each by itself.

    The first part of each wait lets other threads run, as a server's wait for its next request does.

    Args:
        prepare: Makes what the call needs; not timed.
        call: The call.
        finish: Does what follows the call; not timed.
        rate: Calls in a second.
        calls: How many.
    """
    return _each(prepare, call, finish, calls=calls, gap=1_000_000_000 // rate)


def burst(
    prepare: Callable[[], Any], call: Callable[[Any], object], finish: Callable[[Any], object], *, calls: int
) -> Calls:
    """Make calls as fast as they go, and time each by itself."""
    return _each(prepare, call, finish, calls=calls, gap=0)


def _each(
    prepare: Callable[[], Any], call: Callable[[Any], object], finish: Callable[[Any], object], *, calls: int, gap: int
) -> Calls:
    took: list[int] = []
    warm_up = calls // 20
    due = _clock()
    for _ in range(warm_up + calls):
        subject = prepare()
        # A thread that only spins would keep the interpreter to itself, and delivery would stand still.
        while _clock() < due - _SPIN:
            time.sleep(0)
        while _clock() < due:
            pass
        started = _clock()
        call(subject)
        took.append(_clock() - started)
        finish(subject)
        due += gap
    percentiles = quantiles(took[warm_up:], n=100)
    return Calls(p50=percentiles[49] / 1000, p99=percentiles[98] / 1000)


class Used(NamedTuple):
    """Duration of a piece of work, in seconds."""

    elapsed: float
    processor: float
    """User and system time of all threads of this process."""
    caller: float
    """The part of it that the calling thread took."""


def used(work: Callable[[], object]) -> Used:
    """Do the work, and say what it took."""
    processor, caller, started = _processor(), time.thread_time(), time.perf_counter()
    work()
    return Used(time.perf_counter() - started, _processor() - processor, time.thread_time() - caller)


def _processor() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
