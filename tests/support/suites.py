"""A user's test suite, run by pytest in a process of its own."""

from __future__ import annotations

import pytest

# Plugins of this environment that no suite uses. To import them takes five times as long as to run a suite.
_UNUSED = ("faker", "hypothesispytest", "randomly", "schemathesis")
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
