from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from sessionsight import late_import
from sessionsight.late_import import late_import as importing
from tests.support.server import PATIENCE


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
def test_a_fork_gives_up_waiting_for_an_import_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_import, "_PATIENCE", 0.01)
    begun, ended = threading.Event(), threading.Event()

    def import_() -> None:
        with importing():
            begun.set()
            ended.wait(PATIENCE)

    thread = threading.Thread(target=import_)
    thread.start()
    assert begun.wait(PATIENCE)

    late_import._before_fork()
    late_import._after_fork()

    ended.set()
    thread.join(PATIENCE)
    with importing():
        pass
    assert late_import._held == []


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
def test_an_import_that_needs_a_logger_ends_before_a_fork() -> None:
    """Also where sessionsight is imported before logging, whose lock a fork takes as well."""
    script = """
import os, threading
from sessionsight import late_import

import logging

importing, forking = threading.Event(), threading.Event()


def import_():
    with late_import.late_import():
        importing.set()
        forking.wait(20)
        logging.getLogger("sessionsight.test")


os.register_at_fork(before=forking.set)
threading.Thread(target=import_).start()
assert importing.wait(20)
pid = os.fork()
if pid == 0:
    os._exit(not late_import._lock.acquire(timeout=0))
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3 * PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
