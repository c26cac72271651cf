"""`manage.py sessionsight`: the commands of `sessionsight` for a Django project."""

from __future__ import annotations

from argparse import REMAINDER
from contextlib import redirect_stdout
from typing import Any, TextIO, cast

import click
from django.core.management.base import BaseCommand, CommandError, CommandParser

from sessionsight.cli import AdapterGroup
from sessionsight.cli.target import Target
from sessionsight_django.checks import database_findings, project_findings
from sessionsight_django.clients import client

__all__ = ["Command"]


class Command(BaseCommand):
    """Diagnoses the analytics of this project."""

    help = "Diagnose the analytics of this project: check, test-event, stats, relay, spool, dead-letters, erase."
    # Django's own checks may need a database, which these commands do not.
    requires_system_checks: list[str] = []  # noqa: RUF012  # as in Django's own commands

    def add_arguments(self, parser: CommandParser) -> None:
        """Accept a command and its arguments, which click parses."""
        parser.add_argument("arguments", nargs=REMAINDER, metavar="command", help="A command, or --help after one.")

    def handle(self, *args: Any, arguments: list[str], **options: Any) -> None:
        """Run a command."""
        self.stdout.ending = ""  # click writes whole lines
        color = not options["no_color"] and (options["force_color"] or self.stdout.isatty())
        try:
            with redirect_stdout(cast("TextIO", self.stdout)):
                group = AdapterGroup(target=_target, help=self.help)
                code = group.main(arguments, prog_name="manage.py sessionsight", standalone_mode=False, color=color)
        except click.ClickException as error:
            raise CommandError(error.format_message(), returncode=error.exit_code) from None
        if code:
            raise CommandError("there are errors", returncode=code)


def _target() -> Target:
    settings = client().settings
    numbered = [*project_findings(settings), *(() if settings.disabled else database_findings(settings.database))]
    return Target(client(), findings=tuple(finding for _, finding in numbered))
