"""What a look at analytics has found, and how that reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from sessionsight.errors import escape_control_characters
from sessionsight.test_mode import TESTING_VARIABLE

__all__ = ["HELD", "Finding", "failed", "report_lines"]


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that was looked at, and what was found.

    Example:
        >>> report_lines([Finding(level="warning", subject="strict", message="is on", hint="turn it off")])
        ['warning  strict  is on', '                 turn it off']
    """

    level: Literal["ok", "warning", "error"]
    """`error`: records do not arrive. `warning`: they may not, or go elsewhere than you think."""
    subject: str
    """A destination's name, or a setting's."""
    message: str
    """What was found; never a key."""
    hint: str = ""
    """What to do about it; empty when nothing needs to be done."""


HELD = Finding(
    level="warning",
    subject="testing",
    message="nothing is delivered: this process runs under a test",
    hint=f"unset {TESTING_VARIABLE}, or run this outside of tests",
)
"""Found where a test runner or a recorder holds everything."""


def report_lines(findings: Iterable[Finding]) -> list[str]:
    """Findings as aligned lines of text, each with its hint in a line below."""
    findings = list(findings)
    width = max((len(finding.subject) for finding in findings), default=0)
    lines: list[str] = []
    for finding in findings:
        lines.append(f"{finding.level:<7}  {finding.subject:<{width}}  {escape_control_characters(finding.message)}")
        if finding.hint:
            lines.append(f"{'':<7}  {'':<{width}}  {escape_control_characters(finding.hint)}")
    return lines


def failed(findings: Iterable[Finding]) -> bool:
    """Whether one of the findings is an error: a command ends with exit code 1 then."""
    return any(finding.level == "error" for finding in findings)
