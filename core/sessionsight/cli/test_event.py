"""`sessionsight test-event`: sends one marked event to each vendor and reports the results."""

from __future__ import annotations

import click

from sessionsight.cli.report import json_option, report
from sessionsight.cli.target import resolve_target, target_options
from sessionsight.diagnosis import Finding, send_test_event
from sessionsight.errors import CaptureError

__all__ = ["command"]


@click.command("test-event")
@target_options
@click.option("--timeout", default=10.0, show_default=True, help="Seconds to wait for the vendors.")
@click.option("--goal", help="Increment this goal too; it will be counted.")
@click.option("--session-id", help="The session that the goal belongs to: your browser's ss_sid cookie.")
@json_option
def command(
    app: str | None,
    django_settings: str | None,
    timeout: float,
    goal: str | None,
    session_id: str | None,
    *,
    as_json: bool,
) -> None:
    """Send one marked event to each vendor and report the results.

    The event is `sessionsight_test`, by a user of the same name.
    """

    def find() -> list[Finding]:
        client = resolve_target(app, django_settings).client
        try:
            return send_test_event(client, timeout, goal=goal, session_id=session_id)
        except CaptureError as error:
            raise click.UsageError(str(error)) from None

    report(find, as_json=as_json)
