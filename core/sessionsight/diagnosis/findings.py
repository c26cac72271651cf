"""Results of checks, and their text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from sessionsight.errors import escape_control_characters
from sessionsight.test_mode import TESTING_VARIABLE

__all__ = ["DELIVERY_SUPPRESSED", "Finding", "has_errors", "report_lines"]


class Finding(Struct, frozen=True, kw_only=True):
    """The result of one check.

    Example:
        >>> report_lines([Finding(level="warning", subject="strict", message="is on", hint="turn it off")])
        ['warning  strict  is on', '                 turn it off']
    """

    level: Literal["ok", "warning", "error"]
    """`error`: records are not delivered. `warning`: they may not be, or are sent to an unexpected place."""
    subject: str
    """The name of a destination or of a setting."""
    message: str
    """The result; never contains a key."""
    hint: str = ""
    """The recommended action; empty if there is none."""


DELIVERY_SUPPRESSED = Finding(
    level="warning",
    subject="testing",
    message="nothing is delivered: this process runs under a test",
    hint=f"unset {TESTING_VARIABLE}, or run this outside of tests",
)
"""The finding while a test runner or a recorder suppresses delivery."""


def report_lines(findings: Iterable[Finding]) -> list[str]:
    """Format findings as aligned lines of text, each hint in a line of its own."""
    findings = list(findings)
    width = max((len(finding.subject) for finding in findings), default=0)
    lines: list[str] = []
    for finding in findings:
        lines.append(f"{finding.level:<7}  {finding.subject:<{width}}  {escape_control_characters(finding.message)}")
        if finding.hint:
            lines.append(f"{'':<7}  {'':<{width}}  {escape_control_characters(finding.hint)}")
    return lines


def has_errors(findings: Iterable[Finding]) -> bool:
    """Return whether one of the findings is an error, which makes a command exit with 1."""
    return any(finding.level == "error" for finding in findings)
