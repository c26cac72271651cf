"""A click group whose commands are imported when they are run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click

from sessionsight.errors import MissingDependencyError, SessionSightError

__all__ = ["LazyCommand", "LazyGroup"]


class LazyCommand(NamedTuple):
    """Where a command is, and what can be said of it without importing it."""

    module: str
    """The module whose `command` it is."""
    help: str
    """Its line in the group's help."""
    extra: str | None = None
    """The extra that brings what the module imports."""


class LazyGroup(click.Group):
    """A group of commands in modules of their own.

    Errors of ours end a command with their message and exit code 1, without a traceback.

    Args:
        lazy: The commands by name, in the order of the help.
        *args: As click's group takes them.
        **options: These as well.

    Example:
        >>> group = LazyGroup("shop", lazy={"spool": LazyCommand("shop.spool", "Look at the spool.", extra="spool")})
        >>> group.list_commands(click.Context(group))
        ['spool']
    """

    def __init__(self, *args: Any, lazy: Mapping[str, LazyCommand], **options: Any) -> None:
        super().__init__(*args, **options)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, imported now; in place of one that lacks a module, one that says so."""
        lazy = self._lazy.get(cmd_name)
        if lazy is None:
            return None
        try:
            command: click.Command = import_module(lazy.module).command
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package in sys.stdlib_module_names:  # on Windows, or in a Python that was built without it
                return _unavailable(cmd_name, lazy, f"{package}, which this Python does not have")
            if lazy.extra is None or package == "sessionsight":
                raise
            return _unavailable(cmd_name, lazy, f"the package {package}: pip install 'sessionsight[{lazy.extra}]'")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The help's table of commands, which imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in self._lazy.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except SessionSightError as error:
            raise click.ClickException(str(error)) from error


def _unavailable(name: str, lazy: LazyCommand, lacks: str) -> click.Command:
    """A command that takes any arguments, and says what it lacks."""

    def say() -> None:
        raise MissingDependencyError(f"`{name}` needs {lacks}")

    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(name, callback=say, help=lazy.help, add_help_option=False, context_settings=anything)
