"""`manage.py sessionsight check`, `test-event` and `stats`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from sessionsight import CaptureError
from sessionsight.diagnosis import Finding, check, failed, report_lines, send_test_event, stats_lines
from sessionsight_django.clients import client

__all__ = ["Command"]


class Command(BaseCommand):
    """Looks at the analytics of this project."""

    help = "Look at the analytics of this project."
    # Django's own checks may need a database, which these commands do not.
    requires_system_checks: list[str] = []  # noqa: RUF012  # as in Django's own commands

    def add_arguments(self, parser: CommandParser) -> None:
        """The three actions and their options."""
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("check", help="Look at the configuration; nothing is sent.")
        test = actions.add_parser("test-event", help="Send one marked event to each destination.")
        test.add_argument("--timeout", type=float, default=10.0, help="Seconds to wait for the vendors; 10 by default.")
        test.add_argument("--goal", help="Increment this goal too; it will be counted.")
        test.add_argument("--session-id", help="The session that the goal belongs to: your browser's ss_sid cookie.")
        actions.add_parser("stats", help="Print the ledger of this process; a server's own processes have theirs.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one of them."""
        match options["action"]:
            case "check":
                self._print(check(client()))
            case "test-event":
                try:
                    found = send_test_event(
                        client(), options["timeout"], goal=options["goal"], session_id=options["session_id"]
                    )
                except CaptureError as error:
                    raise CommandError(str(error)) from None
                self._print(found)
            case _:
                self.stdout.write("\n".join(stats_lines(client())))

    def _print(self, findings: list[Finding]) -> None:
        self.stdout.write("\n".join(report_lines(findings)))
        if failed(findings):
            raise CommandError("there are errors", returncode=1)
