"""The command line: `sessionsight`, `python -m sessionsight`, `flask sessionsight` and `manage.py sessionsight`.

A command is a module here whose click command is called `command`, and an entry in `COMMANDS`. It is imported when it
is run, so that commands do not pay for each other's imports, and a missing extra breaks only the command that needs it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from sessionsight.cli.lazy import ADAPTER_TARGET, LazyCommand, LazyGroup

if TYPE_CHECKING:
    from sessionsight.cli.target import Target

__all__ = ["COMMANDS", "AdapterGroup", "main"]

COMMANDS = {
    "check": LazyCommand("sessionsight.cli.check", "Check the configuration and whether the vendors respond."),
    "test-event": LazyCommand("sessionsight.cli.test_event", "Send one marked event to each vendor."),
    "stats": LazyCommand("sessionsight.cli.process_stats", "Print the ledger of this process."),
    "relay": LazyCommand("sessionsight.cli.relay", "Deliver what other processes have left in a durable spool."),
    "spool": LazyCommand("sessionsight.cli.spool", "Show the ledger of a durable spool."),
    "dead-letters": LazyCommand("sessionsight.cli.dead_letters", "Manage records that could not be delivered."),
    "erase": LazyCommand("sessionsight.cli.erase", "Delete a user at the vendors and from the queues."),
    "inspector": LazyCommand(
        "sessionsight.cli.inspector", "Show the records of an app on a local page.", extra="inspector"
    ),
}


class AdapterGroup(LazyGroup):
    """The commands of an app whose framework has a command line of its own.

    Args:
        target: Returns the app's client.
        **options: As `click.Group` takes them.
    """

    def __init__(self, *, target: Callable[[], Target], **options: Any) -> None:
        lazy = {name: command for name, command in COMMANDS.items() if name != "inspector"}
        # The configuration alone by default: the app may be checked where the vendors cannot be reached.
        defaults = {"default_map": {"check": {"offline": True}}, **options.pop("context_settings", {})}
        super().__init__("sessionsight", lazy=lazy, context_settings=defaults, **options)
        self._target = target

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command on the app's client."""
        ctx.meta[ADAPTER_TARGET] = self._target
        return super().invoke(ctx)


@click.group(
    cls=LazyGroup,
    # A process that is started for one command has an empty ledger.
    lazy={name: command for name, command in COMMANDS.items() if name != "stats"},
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 for success, 1 if something is wrong, 2 for invalid arguments.",
)
@click.version_option(package_name="sessionsight", prog_name="sessionsight", message="%(prog)s %(version)s")
@click.pass_context
def main(context: click.Context) -> None:
    """Find out why analytics do not arrive, and manage records that wait for delivery."""
    if os.environ.get("NO_COLOR"):  # https://no-color.org; click itself only checks for a terminal
        context.color = False
