"""`sessionsight erase`: deletes a user at the vendors and from the queues."""

from __future__ import annotations

import click

from sessionsight.cli.report import json_option, report
from sessionsight.cli.target import resolve_target, target_options
from sessionsight.client import Client
from sessionsight.delivery.erasure import Erasure
from sessionsight.diagnosis import Finding, check

__all__ = ["command"]


@click.command("erase")
@target_options
@click.argument("user_id")
@click.option("--timeout", default=10.0, show_default=True, help="Seconds to wait for each vendor.")
@json_option
def command(user_id: str, app: str | None, django_settings: str | None, timeout: float, *, as_json: bool) -> None:
    """Delete a user permanently at the vendors that have a request for it, and from the queues.

    USER_ID is the app's own id of the user. Exits with 1 if a vendor's request has failed; repeat the command then.
    Records in the memory of other processes are not dropped.
    """
    report(lambda: _findings(resolve_target(app, django_settings).client, user_id, timeout), as_json=as_json)


def _findings(client: Client, user_id: str, timeout: float) -> list[Finding]:
    if client.settings.disabled or not client.settings.destinations:
        found = check(client)[0]
        return [Finding(level="error", subject=found.subject, message=found.message, hint=found.hint)]
    return [_finding(erasure) for erasure in client.erase(user_id, timeout=timeout)]


def _finding(erasure: Erasure) -> Finding:
    name, dropped = erasure.destination, f"; {erasure.dropped} queued records dropped" if erasure.dropped else ""
    if erasure.outcome == "erased":
        return Finding(level="ok", subject=name, message=f"the user is deleted{dropped}")
    if erasure.outcome == "not_found":
        return Finding(level="warning", subject=name, message=f"does not know this user{dropped}")
    if erasure.outcome == "unsupported":
        message = f"has no request that deletes a user{dropped}"
        hint = "delete the user in the vendor's dashboard, or ask its support"
        return Finding(level="warning", subject=name, message=message, hint=hint)
    status = f"HTTP {erasure.status}, " if erasure.status is not None else ""
    message = f"not deleted: {status}{erasure.message}{dropped}"
    return Finding(level="error", subject=name, message=message, hint="repeat the command; nothing is retried")
