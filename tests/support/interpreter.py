"""Differences between interpreters."""

from __future__ import annotations

import sys

import pytest

FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()
"""True without the interpreter lock."""


def skip_unless_child_can_run(fork: str) -> None:
    """Skip a test that forks by C code while other threads run, where Python itself may crash in such a child."""
    if fork == "fork_in_c" and FREE_THREADED:
        pytest.skip("without the interpreter lock such a child of several threads can crash before it runs our code")
