"""The long form of the chaos suite: prints the outcome of all records, and fails if one is not accounted for.

    python -m tests.chaos.run                      # all of it, about twenty minutes
    python -m tests.chaos.run --only kill --captures 100000
    SESSIONSIGHT_CHAOS_SEED=7 python -m tests.chaos.run

Six parts: `storm`, every fault at once over every spool; `kill`, a site under gunicorn whose workers are killed by -9
every second; `fleet`, two web processes, Redis and two relays, one killed and one stopped for a minute; `relays`, two
relays that are killed by -9 at 200 random points; `purchase`, processes killed within a transaction whose records are
in the same database; `fuzz`, what browsers may send, by atheris where that is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos import fleet, kill, purchase, relays, storm
from tests.chaos.fates import SEED_VARIABLE, chosen_seed
from tests.core.sqlalchemy_databases import sqlalchemy_database
from tests.support.brokers import need_mariadb, need_postgresql
from tests.support.redis_server import run_redis

_DATABASES = {"postgresql": need_postgresql, "mariadb": need_mariadb}
PARTS = ("storm", "kill", "fleet", "relays", "purchase", "fuzz")


def main() -> int:
    """Run the selected parts, and return the exit status."""
    arguments = _arguments()
    seed = chosen_seed()
    print(f"replay with {SEED_VARIABLE}={seed}\n")
    logging.getLogger("sessionsight").setLevel(logging.CRITICAL)
    failed = False
    for part in arguments.only or PARTS:
        for title, result, problems in _run(part, seed, arguments):
            print(f"== {title}\n{result}\n{'FAILED' if problems else 'passed'}\n", flush=True)
            failed |= bool(problems)
    return int(failed)


def _run(part: str, seed: int, arguments: argparse.Namespace) -> Iterator[tuple[str, object, list[str]]]:
    if part == "storm":
        yield from _storm(seed, arguments.visits)
    elif part == "kill":
        yield from _kill(seed, arguments.captures, arguments.kills)
    elif part == "fleet":
        yield from _fleet(seed)
    elif part == "relays":
        yield from _relays(seed, arguments.relays)
    elif part == "purchase":
        yield from _purchase(seed)
    else:
        yield from _fuzz(seed, arguments.fuzz)


@contextmanager
def _spool(kind: str) -> Iterator[tuple[str, Path]]:
    """Yield the URL of an empty spool, and a folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if kind == "redis":
            with run_redis(folder, appendonly="yes") as redis:
                yield redis.url, folder
        elif kind in _DATABASES:
            with sqlalchemy_database(kind, folder) as url:
                yield f"sqlalchemy:{url}", folder
        else:
            yield "memory" if kind == "memory" else f"sqlite:///{folder}/spool.db", folder


def _durable() -> list[str]:
    """Return the kinds of durable spools whose servers are installed."""
    if shutil.which("redis-server") is not None:
        return ["sqlite", "redis"]
    print("without Redis: redis-server is not installed (apt-get install redis-server)\n")
    return ["sqlite"]


def _databases() -> Iterator[str]:
    """Yield the databases that can be outboxes and whose servers run."""
    for engine, need in _DATABASES.items():
        try:
            need()
        except pytest.skip.Exception as error:
            print(f"without {engine}: {error}\n")
        else:
            yield engine


def _storm(seed: int, visits: int) -> Iterator[tuple[str, object, list[str]]]:
    for kind in ("memory", *_durable()):
        for on_unknown in ("dead_letter", "retry"):
            with _spool(kind) as (spool, folder):
                plan = storm.Plan(
                    seed,
                    visits,
                    spool=spool,
                    goals_on_unknown="dead_letter" if on_unknown == "dead_letter" else "retry",
                    storm=20.0,
                )
                result = storm.run(plan, folder)
            yield f"storm, spool {kind}, unknown goals: {on_unknown}", result, result.problems()


def _kill(seed: int, captures: int, kills: int) -> Iterator[tuple[str, object, list[str]]]:
    for kind in _durable():
        with _spool(kind) as (spool, folder):
            result = kill.run(kill.Plan(seed, captures, spool=spool, kills=kills), folder)
        yield f"kill -9, spool {kind}, {captures} captures", result, result.problems()


def _fleet(seed: int) -> Iterator[tuple[str, object, list[str]]]:
    if "redis" in _durable():
        with _spool("redis") as (spool, folder):
            result = fleet.run(fleet.Plan(seed, spool, visits=6_000, pace=40.0), folder)
        yield "fleet on Redis, a relay killed and another stopped for a minute", result, result.problems()


def _relays(seed: int, kills: int) -> Iterator[tuple[str, object, list[str]]]:
    for kind in (*_durable(), *_databases()):
        with _spool(kind) as (spool, folder):
            result = relays.run(relays.Plan(seed, spool, kills=kills), folder)
        yield f"relays killed {kills} times, spool {kind}", result, result.problems()


def _purchase(seed: int) -> Iterator[tuple[str, object, list[str]]]:
    for engine in (*_databases(), "sqlite_orm"):
        with tempfile.TemporaryDirectory() as folder:
            result = purchase.run(engine, Path(folder), seed, kills=200)
        yield f"purchase, {engine}", result, result.problems()


def _fuzz(seed: int, runs: int) -> Iterator[tuple[str, object, list[str]]]:
    if importlib.util.find_spec("atheris") is None:
        print("== fuzz\nskipped: atheris is not installed (pip install 'sessionsight[chaos]')\n")
        return
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        options = [f"-runs={runs}", f"-seed={seed}", f"-artifact_prefix={folder}/", "-max_len=4096", "-verbosity=0"]
        command = [sys.executable, "-m", "tests.chaos.fuzz_resolver", *options]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    said = f"{runs} requests resolved in {time.monotonic() - begun:.1f} s"
    problems = [] if done.returncode == 0 else [done.stdout[-2000:] + done.stderr[-2000:]]
    yield "fuzz", "\n".join([said, *problems]), problems


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", choices=PARTS, help="this part alone; may be given again")
    parser.add_argument("--visits", type=int, default=1_000, help="visits of each storm (default: %(default)s)")
    parser.add_argument("--captures", type=int, default=100_000, help="captures under kill -9 (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=100, help="at most so many, one a second (default: %(default)s)")
    parser.add_argument("--relays", type=int, default=200, help="kills of relays (default: %(default)s)")
    parser.add_argument("--fuzz", type=int, default=200_000, help="requests to resolve (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
