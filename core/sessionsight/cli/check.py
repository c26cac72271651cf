"""`sessionsight check`: checks the configuration and whether the vendors respond."""

from __future__ import annotations

import click

from sessionsight.cli.report import json_option, report
from sessionsight.cli.target import resolve_target, target_options
from sessionsight.diagnosis import Finding, check
from sessionsight.diagnosis.reachability import check_reachability

__all__ = ["command"]


@click.command("check")
@target_options
@click.option("--offline/--online", help="Send no requests to the vendors; the default of flask and manage.py.")
@click.option("--timeout", default=5.0, show_default=True, help="Seconds to wait for the vendors' responses.")
@json_option
def command(app: str | None, django_settings: str | None, timeout: float, *, offline: bool, as_json: bool) -> None:
    """Check the configuration, its sources, and whether the vendors respond.

    Sends no record and no key. Use `test-event` to verify keys.
    """

    def find() -> list[Finding]:
        target = resolve_target(app, django_settings)
        findings = check(target.client)
        if target.description:
            findings.insert(0, Finding(level="ok", subject="settings", message=f"taken from {target.description}"))
        findings += target.findings
        return findings if offline else [*findings, *check_reachability(target.client, timeout)]

    report(find, as_json=as_json)
