"""Which spool a setting means. What it needs is imported when it is chosen."""

from __future__ import annotations

import logging
import os
from urllib.parse import unquote

from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.base import Spool
from sessionsight.delivery.queue.memory import MemorySpool
from sessionsight.errors import ConfigurationError
from sessionsight.log import ThrottledLogger

__all__ = ["is_durable", "open_spool", "sqlite_path", "url_error"]

_SQLITE = "sqlite:///"
# The first that adds to what is there (ON CONFLICT DO UPDATE).
_OLDEST_SQLITE = (3, 24)


def open_spool(spool: str, options: DeliveryOptions, logger: ThrottledLogger) -> Spool:
    """Return the spool that a setting means, for one process.

    A process that was forked while the file was open gets a spool in memory, because SQLite cannot open that file
    a second time there; an error is logged.

    Args:
        spool: `"memory"`, `"sqlite:///relative/path"` or `"sqlite:////absolute/path"`.
        options: Its bounds.
        logger: Logs what an operator should know.

    Raises:
        ConfigurationError: This Python cannot keep it.
    """
    path = sqlite_path(spool)
    if path is None:
        return MemorySpool(options)
    try:
        import fcntl  # noqa: F401
        import sqlite3
    except ImportError as error:
        raise ConfigurationError(f"spool: a file needs {error.name}, which this Python does not have") from error
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise ConfigurationError(f"spool: a file needs SQLite 3.24; this Python has {sqlite3.sqlite_version}")
    from sessionsight.delivery.stores.sqlite import fork
    from sessionsight.delivery.stores.sqlite.store import SqliteSpool

    if fork.was_inherited(path):
        logger.log(
            logging.ERROR,
            f"spool {path}: this process was forked while the file was open (by C code, or during a long write), so it "
            "cannot use the file; its records are kept in memory, and lost if it is killed. Fork before the first "
            "record is captured, or with os.fork()",
        )
        return MemorySpool(options)
    return SqliteSpool(path, options, logger)


def is_durable(spool: str) -> bool:
    """Whether what waits in it survives the process."""
    return sqlite_path(spool) is not None


def sqlite_path(spool: str) -> str | None:
    """The absolute path of the file that a setting means; None when it means no file.

    Example:
        >>> sqlite_path("sqlite:////var/lib/shop/analytics.db")
        '/var/lib/shop/analytics.db'
    """
    if not spool.startswith(_SQLITE):
        return None
    # Once for all: a process may change its folder later.
    return os.path.realpath(unquote(spool.removeprefix(_SQLITE)))


def url_error(spool: object) -> str | None:
    """What a setting must be, when this value is not that."""
    if spool == "memory":
        return None
    if isinstance(spool, str) and spool.startswith(_SQLITE) and spool != _SQLITE and "\0" not in unquote(spool):
        return None
    return "one of 'memory', 'sqlite:///relative/path', 'sqlite:////absolute/path'"
