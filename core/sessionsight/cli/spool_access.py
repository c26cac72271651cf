"""Opens the spool of a command: the named one, or that of an app, a Django project or the environment."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sessionsight.cli.target import ENVIRONMENT, resolve_target, target_options
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.factory import open_store
from sessionsight.delivery.stores.errors import StoreError
from sessionsight.log import ThrottledLogger
from sessionsight.spool_url import django_alias, is_durable

if TYPE_CHECKING:
    from sessionsight.delivery.stores.redis.store import RedisStore
    from sessionsight.delivery.stores.sqlite.store import SqliteStore

__all__ = ["SpoolAccess", "spool_options"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_BUSY_TIMEOUT = 10.0


def spool_options(command: _Command) -> _Command:
    """Add the options that `SpoolAccess` takes to a command."""
    spool = click.option("--spool", metavar="URL", help="The spool's URL as in the setting, or its file.")
    return spool(target_options(command))


class SpoolAccess:
    """Reads and writes a durable spool while other processes may be using it.

    Args:
        spool: A path or a URL; by default the setting of the app that the other arguments select.
        app: As `--app`.
        django_settings: As `--django-settings`.

    Raises:
        click.UsageError: The spool is not durable, or is in a Django project that is not selected.
    """

    def __init__(self, spool: str | None, app: str | None, django_settings: str | None) -> None:
        if spool is None:
            target = resolve_target(app, django_settings)
            spool = target.client.settings.spool
            if not is_durable(spool):
                raise click.UsageError(
                    f"{target.description or 'this app'}: the spool is {spool!r}, which has nothing of other processes"
                )
        elif django_alias(spool) is not None and resolve_target(app, django_settings).description == ENVIRONMENT:
            raise click.UsageError(f"spool {spool} is in the database of a Django project: give --django-settings")
        self.spool = spool
        """A path or a URL."""

    @contextlib.contextmanager
    def open(self) -> Iterator[SqliteStore | RedisStore]:
        """Open the store, which claims nothing.

        Raises:
            click.ClickException: It cannot be used.
            click.UsageError: Its file does not exist.
        """
        try:
            store = open_store(self.spool, DeliveryOptions(), ThrottledLogger(), timeout=_BUSY_TIMEOUT)
        except StoreError as error:
            raise click.UsageError(f"spool {self.spool}: {error}") from error
        try:
            yield store
        except StoreError as error:
            raise click.ClickException(f"spool {store.name}: {error}") from error
        finally:
            store.close()
