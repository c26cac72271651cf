"""Opens the spool of a command: the named file, or that of an app, a Django project or the environment."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from sessionsight.cli.target import resolve_target, target_options
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.factory import sqlite_path
from sessionsight.delivery.stores.errors import StoreError
from sessionsight.delivery.stores.sqlite.store import SqliteStore
from sessionsight.log import ThrottledLogger

__all__ = ["SpoolAccess", "spool_options"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_BUSY_TIMEOUT = 10.0


def spool_options(command: _Command) -> _Command:
    """Add the options that `SpoolAccess` takes to a command."""
    spool = click.option("--spool", metavar="FILE", help="The spool's file, or its URL as in the setting.")
    return spool(target_options(command))


class SpoolAccess:
    """Reads and writes a spool's file while other processes may be using it.

    Args:
        spool: A path or a URL; by default the setting of the app that the other arguments select.
        app: As `--app`.
        django_settings: As `--django-settings`.

    Raises:
        click.UsageError: The spool is not a file, or the file does not exist.
    """

    def __init__(self, spool: str | None, app: str | None, django_settings: str | None) -> None:
        if spool is None:
            target = resolve_target(app, django_settings)
            setting = target.client.settings.spool
            path = sqlite_path(setting)
            if path is None:
                raise click.UsageError(
                    f"{target.description or 'this app'}: the spool is {setting!r}, which is not a file"
                )
        else:
            path = sqlite_path(spool) or spool
        if not Path(path).is_file():
            raise click.UsageError(f"spool {path} does not exist; it is created when the first record is captured")
        self.path = path

    @contextlib.contextmanager
    def open(self) -> Iterator[SqliteStore]:
        """Open the store, which claims nothing.

        Raises:
            click.ClickException: It cannot be used.
        """
        store = SqliteStore(self.path, DeliveryOptions(), ThrottledLogger(), quarantine=False, timeout=_BUSY_TIMEOUT)
        try:
            yield store
        except StoreError as error:
            raise click.ClickException(f"spool {self.path}: {error}") from error
        finally:
            store.close()
