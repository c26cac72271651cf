"""`flask sessionsight check`, `test-event` and `stats`, registered by `init_app`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click
from flask.cli import AppGroup

from sessionsight import CaptureError
from sessionsight.diagnosis import Finding, check, failed, report_lines, send_test_event, stats_lines
from sessionsight_flask.config import late_message

if TYPE_CHECKING:
    from sessionsight import Client

__all__ = ["commands"]


def commands(client: Callable[[], Client], late: Callable[[], list[str]]) -> AppGroup:
    """Return the commands of an app.

    Args:
        client: Returns its client.
        late: Returns the settings that have changed since the client was made.
    """
    group = AppGroup("sessionsight", help="Look at the analytics of this app.")

    @group.command("check")
    def check_() -> None:
        """Look at the configuration; nothing is sent."""
        findings = check(client())
        if names := late():
            findings.append(Finding(level="error", subject="app.config", message=late_message(names)))
        _print(findings)

    @group.command("test-event")
    @click.option("--timeout", default=10.0, show_default=True, help="Seconds to wait for the vendors.")
    @click.option("--goal", help="Increment this goal too; it will be counted.")
    @click.option("--session-id", help="The session that the goal belongs to: your browser's ss_sid cookie.")
    def test_event(timeout: float, goal: str | None, session_id: str | None) -> None:
        """Send one marked event to each destination, and tell what became of it."""
        try:
            _print(send_test_event(client(), timeout, goal=goal, session_id=session_id))
        except CaptureError as error:
            raise click.UsageError(str(error)) from None

    @group.command("stats")
    def stats() -> None:
        """Print the ledger of this process; a server's own processes have theirs."""
        for line in stats_lines(client()):
            click.echo(line)

    return group


def _print(findings: list[Finding]) -> None:
    for line in report_lines(findings):
        click.echo(line)
    if failed(findings):
        raise click.exceptions.Exit(1)
