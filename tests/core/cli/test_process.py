"""The command in a process of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.core.cli.commands import start
from tests.support.server import Server

pytestmark = [pytest.mark.processes, pytest.mark.measured_processes]


def test_the_exit_code_of_a_process_depends_on_the_findings(server: Server, folder: Path) -> None:
    environ = {"SIGNAL_API_KEY": "key_1", "SIGNAL_PROJECT_ID": "shop", "SIGNAL_ENDPOINT": server.url}
    ran = start("test-event", folder=folder, environ=environ)
    assert (ran.returncode, ran.stdout, ran.stderr) == (
        0,
        "ok       signal  delivered: event 'sessionsight_test'\n",
        "",
    )
    assert len(server.requests) == 1
    assert start("test-event", folder=folder).returncode == 1
    assert start("test-event", "--session", folder=folder).returncode == 2


def test_a_terminal_gets_colours(folder: Path) -> None:
    ours, theirs = os.openpty()
    try:
        start("check", "--offline", folder=folder, stdout=theirs)
        assert os.read(ours, 100).startswith(b"\x1b[32m\x1b[1mok\x1b[0m ")
    finally:
        os.close(ours)
        os.close(theirs)
