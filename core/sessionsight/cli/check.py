"""`sessionsight check`: what is configured, from where, and whether each vendor answers."""

from __future__ import annotations

import click

from sessionsight.cli.report import json_option, report
from sessionsight.cli.target import find, whose_options
from sessionsight.diagnosis import Finding, check
from sessionsight.diagnosis.reachability import check_reachability

__all__ = ["command"]


@click.command("check")
@whose_options
@click.option("--offline", is_flag=True, help="Do not ask whether the vendors answer.")
@click.option("--timeout", default=5.0, show_default=True, help="Seconds to wait for the vendors' answers.")
@json_option
def command(app: str | None, django_settings: str | None, timeout: float, *, offline: bool, as_json: bool) -> None:
    """Tell what is configured, from where, and whether each vendor answers.

    Looks at the environment, at an app, or at a Django project. No record is sent, and no key: `test-event` tells
    whether a key is right.
    """

    def look() -> list[Finding]:
        whose = find(app, django_settings)
        place = Finding(level="ok", subject="settings", message=f"taken from {whose.place}")
        answers = [] if offline else check_reachability(whose.client, timeout)
        return [place, *check(whose.client), *answers]

    report(look, as_json=as_json)
