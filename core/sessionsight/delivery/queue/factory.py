"""Opens the spool of a URL. Modules that only durable spools need are imported here."""

from __future__ import annotations

import logging
import os
import time
from urllib.parse import unquote

from sessionsight.clock import Clock
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.base import Spool
from sessionsight.delivery.queue.memory import MemorySpool
from sessionsight.errors import ConfigurationError
from sessionsight.log import ThrottledLogger

__all__ = ["is_durable", "open_spool", "sqlite_path", "url_error"]

_SQLITE = "sqlite:///"
# The first version with ON CONFLICT DO UPDATE.
_OLDEST_SQLITE = (3, 24)


def open_spool(spool: str, options: DeliveryOptions, logger: ThrottledLogger, *, clock: Clock = time) -> Spool:
    """Open a spool for this process.

    A process that was forked while the file was open gets a spool in memory, because SQLite cannot open that file
    a second time there. That is logged as an error.

    Args:
        spool: `"memory"`, `"sqlite:///relative/path"` or `"sqlite:////absolute/path"`.
        options: Its bounds and time limits.
        logger: For errors of the store.
        clock: The time of maintenance, retries and ages.

    Raises:
        ConfigurationError: This Python does not support SQLite files.
    """
    path = sqlite_path(spool)
    if path is None:
        return MemorySpool(options, clock=clock)
    try:
        import fcntl  # noqa: F401
        import sqlite3
    except ImportError as error:
        raise ConfigurationError(f"spool: a file needs {error.name}, which this Python does not have") from error
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise ConfigurationError(f"spool: a file needs SQLite 3.24; this Python has {sqlite3.sqlite_version}")
    from sessionsight.delivery.queue.durable_spool import DurableSpool
    from sessionsight.delivery.queue.enqueue_only import EnqueueOnlySpool
    from sessionsight.delivery.stores.sqlite import fork
    from sessionsight.delivery.stores.sqlite.store import SqliteStore

    if fork.was_inherited(path):
        logger.log(
            logging.ERROR,
            f"spool {path}: this process was forked while the file was open (by C code, or during a long write), so it "
            "cannot use the file; its records are kept in memory, and lost if it is killed. Fork before the first "
            "record is captured, or with os.fork()",
        )
        return MemorySpool(options, clock=clock)
    kind = EnqueueOnlySpool if options.delivery == "relay" else DurableSpool
    return kind(SqliteStore(path, options, logger, clock=clock), options, logger, clock=clock)


def is_durable(spool: str) -> bool:
    """Return whether the records of a spool outlive the process."""
    return sqlite_path(spool) is not None


def sqlite_path(spool: str) -> str | None:
    """Return the absolute path of a spool's file; None if it is not in a file.

    Example:
        >>> sqlite_path("sqlite:////var/lib/shop/analytics.db")
        '/var/lib/shop/analytics.db'
    """
    if not spool.startswith(_SQLITE):
        return None
    # The process may change its working directory later.
    return os.path.realpath(unquote(spool.removeprefix(_SQLITE)))


def url_error(spool: object) -> str | None:
    """Return the expected values, if this is not one of them; otherwise None."""
    if spool == "memory":
        return None
    if isinstance(spool, str) and spool.startswith(_SQLITE) and spool != _SQLITE and "\0" not in unquote(spool):
        return None
    return "one of 'memory', 'sqlite:///relative/path', 'sqlite:////absolute/path'"
