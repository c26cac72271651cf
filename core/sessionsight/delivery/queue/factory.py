"""Opens the spool of a URL. Modules that only durable spools need are imported here."""

from __future__ import annotations

import importlib
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sessionsight.clock import Clock
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.base import Spool
from sessionsight.delivery.queue.memory import MemorySpool
from sessionsight.delivery.stores.errors import StoreUnavailable
from sessionsight.errors import ConfigurationError, MissingDependencyError
from sessionsight.log import ThrottledLogger
from sessionsight.spool_url import (
    django_alias,
    is_in_database,
    is_redis,
    parse_redis,
    spool_name,
    sqlalchemy_url,
    sqlite_path,
    url_error,
)

if TYPE_CHECKING:
    from sessionsight.delivery.stores.base import Store
    from sessionsight.delivery.stores.redis.store import RedisStore
    from sessionsight.delivery.stores.sqlite.store import SqliteStore

__all__ = [
    "open_database_store",
    "open_redis_store",
    "open_spool",
    "open_store",
]

# The first version with ON CONFLICT DO UPDATE.
_OLDEST_SQLITE = (3, 24)


def open_spool(spool: str, options: DeliveryOptions, logger: ThrottledLogger, *, clock: Clock = time) -> Spool:
    """Open a spool for this process.

    A process that was forked while the file was open gets a spool in memory, because SQLite cannot open that file
    a second time there. That is logged as an error.

    Args:
        spool: `"memory"`, `"sqlite:///relative/path"`, `"sqlite:////absolute/path"`,
            `"redis://host:6379/0?namespace=shop"`, `"django"`, `"django:alias"` or
            `"sqlalchemy:postgresql+psycopg://host/shop"`.
        options: Its bounds and time limits.
        logger: For errors of the store.
        clock: The time of maintenance, retries and ages.

    Raises:
        ConfigurationError: This Python does not support SQLite files.
        MissingDependencyError: A package that the store needs is not installed.
    """
    if is_redis(spool):
        return _over(open_redis_store(spool, options, logger, clock=clock), options, logger, clock)
    if is_in_database(spool):
        return _over(open_database_store(spool, options, logger, clock=clock), options, logger, clock)
    path = sqlite_path(spool)
    if path is None:
        return MemorySpool(options, clock=clock)
    _check_sqlite()
    from sessionsight.delivery.stores.sqlite.connection import was_inherited
    from sessionsight.delivery.stores.sqlite.store import SqliteStore

    if was_inherited(path):
        logger.log(
            logging.ERROR,
            f"spool {path}: this process was forked while the file was open (by C code, or during a long write), so it "
            "cannot use the file; its records are kept in memory, and lost if it is killed. Fork before the first "
            "record is captured, or with os.fork()",
        )
        return MemorySpool(options, clock=clock)
    return _over(SqliteStore(path, options, logger, clock=clock), options, logger, clock)


def _check_sqlite() -> None:
    """Check that this Python supports the files.

    Raises:
        ConfigurationError: It does not.
    """
    try:
        import fcntl  # noqa: F401
        import sqlite3
    except ImportError as error:
        raise ConfigurationError(f"spool: a file needs {error.name}, which this Python does not have") from error
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise ConfigurationError(f"spool: a file needs SQLite 3.24; this Python has {sqlite3.sqlite_version}")


def _over(store: Store, options: DeliveryOptions, logger: ThrottledLogger, clock: Clock) -> Spool:
    """Return a spool over a store, which only enqueues if a relay delivers."""
    from sessionsight.delivery.queue.durable_spool import DurableSpool
    from sessionsight.delivery.queue.enqueue_only import EnqueueOnlySpool

    kind = EnqueueOnlySpool if options.delivery == "relay" else DurableSpool
    return kind(store, options, logger, clock=clock)


def open_redis_store(spool: str, options: DeliveryOptions, logger: ThrottledLogger, **others: Any) -> RedisStore:
    """Return the store of a Redis URL. It connects to the server when it is used.

    Args:
        spool: The URL.
        options: Its bounds and time limits.
        logger: For what happens to its data.
        **others: As for `RedisStore`.

    Raises:
        ConfigurationError: The URL is not valid.
        MissingDependencyError: redis-py is not installed.
    """
    url = parse_redis(spool)
    if url is None:
        raise ConfigurationError(f"spool must be {url_error(spool)}")
    try:
        from sessionsight.delivery.stores.redis.store import RedisStore
    except ImportError as error:
        raise MissingDependencyError('spool: a Redis URL needs redis-py: pip install "sessionsight[redis]"') from error
    return RedisStore(url, options, logger, **others)


def open_database_store(spool: str, options: DeliveryOptions, logger: ThrottledLogger, **others: Any) -> Any:
    """Return the store in the app's own database. It connects when it is used.

    Args:
        spool: `"django"`, `"django:alias"` or `"sqlalchemy:<URL>"`.
        options: Its bounds and time limits.
        logger: For what happens to its data.
        **others: As for `sessionsight.sql_store.store.SqlStore`.

    Raises:
        ConfigurationError: The project has no database with this alias, or the URL cannot be used.
        MissingDependencyError: Django, SQLAlchemy or the driver is not installed.
    """
    url = sqlalchemy_url(spool)
    # By name, because this package does not import what is built on it.
    if url is not None:
        store = importlib.import_module("sessionsight.sqlalchemy.store").SqlAlchemyStore
        return store(spool_name(spool), url, options, logger, **others)
    try:
        store = importlib.import_module("sessionsight_django.outbox.store").DjangoStore
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f'spool: {spool!r} needs Django: pip install "sessionsight[django]"') from error
    return store(django_alias(spool), options, logger, **others)


def open_store(
    spool: str, options: DeliveryOptions, logger: ThrottledLogger, *, timeout: float
) -> SqliteStore | RedisStore:
    """Open the store of a durable spool to read it, or to change its dead letters. It claims no records.

    Args:
        spool: A URL as in the setting, or the path of a file.
        options: Bounds and time limits.
        logger: For what happens to its data.
        timeout: Seconds for which each call may wait.

    Raises:
        ConfigurationError: The URL is not valid, or this Python does not support SQLite files.
        MissingDependencyError: A package that the store needs is not installed.
        StoreUnavailable: The file does not exist.
    """
    store: SqliteStore | RedisStore
    if is_redis(spool):
        store = open_redis_store(spool, options, logger, timeout=timeout)
    elif is_in_database(spool):
        store = open_database_store(spool, options, logger, timeout=timeout)
    elif (path := sqlite_path(spool)) is None and "://" in spool:
        raise ConfigurationError(f"spool must be {url_error(spool)}")
    else:
        _check_sqlite()
        from sessionsight.delivery.stores.sqlite.store import SqliteStore

        file = path or spool
        if not Path(file).is_file():
            raise StoreUnavailable("the file does not exist; it is created when the first record is captured")
        store = SqliteStore(file, options, logger, timeout=timeout)
    return store
