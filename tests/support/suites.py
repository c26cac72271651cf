"""A user's test suite, run by pytest in a process of its own, and imports that such processes do without."""

from __future__ import annotations

from pathlib import Path

import pytest

WITHOUT_TRIO = str(Path(__file__).with_name("without_trio"))
"""For PYTHONPATH: httpcore and anyio import trio where it is installed, which takes a third of a short process."""

# Plugins of this environment that suites do not use, or load by themselves. To import them takes five times as long as
# to run a suite.
_UNUSED = ("anyio", "faker", "hypothesispytest", "platformdirs", "randomly", "schemathesis")
OPTIONS = ("-p", "no:cacheprovider", *(option for name in _UNUSED for option in ("-p", f"no:{name}")))
"""Options of pytest for such a suite."""


def run_suite(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    """Run the suite in pytester's folder.

    Args:
        pytester: Where its files are.
        *options: More options of pytest.

    Returns:
        The outcome and the output.
    """
    return pytester.runpytest_subprocess(*OPTIONS, *options, timeout=100)
