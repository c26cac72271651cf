"""Findings, as a terminal shows them and as a program reads them."""

from __future__ import annotations

from collections.abc import Callable

import click
import msgspec

from sessionsight.diagnosis import Finding, failed, report_lines
from sessionsight.errors import SessionSightError

__all__ = ["json_option", "report"]

_COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")


def report(look: Callable[[], list[Finding]], *, as_json: bool) -> None:
    """Print what was found, and end with exit code 1 if there is an error among it.

    Args:
        look: Finds it. That the settings are wrong, or that there are no analytics, is a finding as well.
        as_json: Print `{"ok": ..., "findings": [...]}` in place of coloured lines.
    """
    try:
        findings = look()
    except SessionSightError as error:
        findings = [Finding(level="error", subject="settings", message=str(error))]
    wrong = failed(findings)
    if as_json:
        click.echo(msgspec.json.encode({"ok": not wrong, "findings": findings}))
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
