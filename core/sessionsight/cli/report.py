"""Prints findings as coloured lines or as JSON."""

from __future__ import annotations

from collections.abc import Callable

import click
import msgspec

from sessionsight.diagnosis import Finding, has_errors, report_lines
from sessionsight.errors import SessionSightError

__all__ = ["json_option", "report"]

_COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")


def report(find: Callable[[], list[Finding]], *, as_json: bool) -> None:
    """Print findings, and exit with 1 if one of them is an error.

    Args:
        find: Returns the findings. A `SessionSightError` that it raises becomes a finding.
        as_json: Print `{"ok": ..., "findings": [...]}` in place of coloured lines.
    """
    try:
        findings = find()
    except SessionSightError as error:
        findings = [Finding(level="error", subject="settings", message=str(error))]
    wrong = has_errors(findings)
    if as_json:
        click.echo(msgspec.json.encode({"ok": not wrong, "findings": findings}).decode())
    else:
        for line in report_lines(findings):
            click.echo(_coloured(line))
    if wrong:
        raise click.exceptions.Exit(1)


def _coloured(line: str) -> str:
    level, space, rest = line.partition(" ")
    if level in _COLOURS:
        return click.style(level, fg=_COLOURS[level], bold=True) + space + rest
    return click.style(line, dim=True)  # a hint
