"""Celery's prefork children: recycled, killed, and ended without the interpreter's exit."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.servers.server import BIN, END, ROOT, need
from tests.servers.table import PATIENT, WAITING, spool_environment
from tests.support.server import Server, until
from tests.support.suites import WITHOUT_TRIO

pytestmark = pytest.mark.servers

APP = "tests.servers.apps.celery_app"


@pytest.fixture
def vendor() -> Iterator[Server]:
    need("celery", importlib.util.find_spec("celery"), "pip install celery")
    with Server() as vendor:
        yield vendor


def environment(folder: Path, vendor: Server, spool: str, options: Mapping[str, Any]) -> dict[str, str]:
    return {
        "PATH": f"{BIN}:{os.environ.get('PATH', '')}",
        "HOME": str(folder),
        "PYTHONPATH": f"{folder}:{ROOT}:{WITHOUT_TRIO}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "ANALYSE_KEY": "pk_live_1",
        "ANALYSE_HOST": vendor.url,
        "SITE_OPTIONS": json.dumps(dict(options)),
        **spool_environment(spool, folder),
    }


def run(code: str, folder: Path, variables: Mapping[str, str]) -> None:
    """Work of another process of the site."""
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=dict(variables), check=True, timeout=END)


def publish(task: str, tokens: Iterable[str], folder: Path, variables: Mapping[str, str]) -> None:
    run(f"from {APP} import {task}\nfor token in {list(tokens)!r}: {task}.delay(token)", folder, variables)


def deliver(folder: Path, variables: Mapping[str, str]) -> None:
    run(f"from {APP} import client\nassert client.flush(20)", folder, variables)


@contextmanager
def worker(folder: Path, variables: Mapping[str, str], *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker with two children, stopped in order at the end if it still runs."""
    command = f"{BIN}/celery --app {APP} worker --pool prefork --concurrency 2 --without-gossip --without-mingle"
    log = folder / "worker.log"
    with log.open("a") as output:
        process = subprocess.Popen(
            [*command.split(), *options],
            cwd=folder,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            yield process
            process.terminate()
            assert process.wait(END) in {0, -signal.SIGKILL}
        except BaseException:
            print(log.read_text(errors="replace"))  # shown by pytest where a test has failed
            raise
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(END)


def are_done(tokens: Iterable[str], folder: Path) -> None:
    until(lambda: all((folder / "done" / token).exists() for token in tokens), "all tasks are done")


def recycled(folder: Path) -> int:
    """Return the number of children that have done all of their ten tasks."""
    tasks = Counter(file.read_text() for file in (folder / "done").iterdir())
    unknown = tasks[""]  # files that are being written
    return -1 if unknown else sum(number == 10 for number in tasks.values())


def arrived(vendor: Server) -> Counter[str]:
    return Counter(event["properties"]["token"] for request in vendor.requests for event in request.json["events"])


def test_children_that_are_recycled_deliver_from_memory(vendor: Server, tmp_path: Path) -> None:
    tokens = [f"t{number}" for number in range(40)]
    variables = environment(tmp_path, vendor, "memory", {**WAITING, **PATIENT})
    publish("visit", tokens, tmp_path, variables)
    with worker(tmp_path, variables, "--max-tasks-per-child", "10"):
        are_done(tokens, tmp_path)
        # A child that is forked while the parent writes its last words may hang in Python's locks, and the parent with
        # it, so the worker is not stopped while it replaces children.
        until(lambda: len(list((tmp_path / "children").iterdir())) == 2 + recycled(tmp_path), "children are replaced")

    assert arrived(vendor) == Counter(tokens)


def test_a_worker_that_is_killed_whole_leaves_everything_to_the_next_process(vendor: Server, tmp_path: Path) -> None:
    tokens = [f"t{number}" for number in range(40)]
    variables = environment(tmp_path, vendor, "sqlite", {**WAITING, **PATIENT})
    publish("visit", tokens, tmp_path, variables)
    with worker(tmp_path, variables) as process:
        are_done(tokens, tmp_path)
        os.killpg(process.pid, signal.SIGKILL)
    assert not arrived(vendor)

    deliver(tmp_path, variables)

    assert arrived(vendor) == Counter(tokens)


def test_children_of_a_parent_that_has_captured_itself_share_its_file(vendor: Server, tmp_path: Path) -> None:
    tokens = [f"t{number}" for number in range(40)]
    variables = environment(tmp_path, vendor, "sqlite", {**WAITING, **PATIENT})
    publish("visit", tokens, tmp_path, variables)
    with worker(tmp_path, {**variables, "CAPTURE_IN_PARENT": "1"}, "--max-tasks-per-child", "10"):
        are_done(tokens, tmp_path)

    # The parent has ended by the interpreter's exit, and has delivered for all.
    times = arrived(vendor)
    assert {token for token in times if not token.startswith("parent")} == set(tokens)
    assert set(times.values()) == {1}
    assert [token.startswith("parent") for token in times].count(True) == 1


def test_a_task_that_is_run_again_because_its_child_was_killed_counts_once_by_its_key(
    vendor: Server, tmp_path: Path
) -> None:
    tokens = [f"order-{number}" for number in range(4)]
    variables = environment(tmp_path, vendor, "sqlite", {**WAITING, **PATIENT})
    publish("pay", tokens, tmp_path, variables)
    with worker(tmp_path, variables):
        are_done(tokens, tmp_path)

    deliver(tmp_path, variables)

    assert arrived(vendor) == Counter(tokens)
