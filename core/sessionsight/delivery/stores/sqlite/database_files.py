"""The files of a spool on the disk: created for the right user, set aside when damaged, and nothing else touched."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from secrets import token_hex

from sessionsight.delivery.stores.errors import ForeignDatabase, StoreBusy
from sessionsight.delivery.stores.sqlite.schema import is_log_of_spool

__all__ = ["FILE_SUFFIXES", "Identity", "create", "identity", "set_aside"]

FILE_SUFFIXES = ("", "-wal", "-shm")
"""The database itself, and what SQLite keeps beside it."""

Identity = tuple[int, int]
"""Device and inode."""


def identity(path: str) -> Identity | None:
    """Return which file is at a path; None when there is none."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def create(path: str, known: Collection[Identity]) -> None:
    """Create an empty database for its user alone, if there is no file. SQLite gives the files beside it the same mode.

    What lies beside it would be deleted by SQLite, which takes it for the log of a database that is gone. That may only
    happen to our own.

    Args:
        path: Of the database.
        known: Files beside a spool at this path that this process had open.

    Raises:
        StoreBusy: Another process is creating it.
        ForeignDatabase: There is a log that may be somebody else's.
        OSError: It cannot be created.
    """
    if Path(path).exists():
        return
    folder = Path(path).parent
    with _locked(folder):
        if Path(path).exists():
            return
        ours = is_log_of_spool(path)
        for side in ("-journal", *FILE_SUFFIXES[1:]):
            found = identity(path + side)
            if found is None:
                continue
            if found not in known and not (ours and side in FILE_SUFFIXES):
                raise ForeignDatabase(
                    f"there is {path}{side} without its database, and it may belong to something else; delete it if a "
                    "spool has left it"
                )
            with contextlib.suppress(FileNotFoundError):
                Path(path + side).unlink()
        _create_private(path, folder.stat())


def _create_private(path: str, folder: os.stat_result) -> None:
    """Create an empty file that is complete, and closed here, as soon as others can see it.

    To close a file drops all locks that the process has on it, those of another thread's connection included.
    """
    new = f"{path}.new-{token_hex(4)}"
    descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            if os.geteuid() == 0:  # a job of root's must leave a file that the app's own user can open
                os.fchown(descriptor, folder.st_uid, folder.st_gid)
        finally:
            os.close(descriptor)
        try:
            os.link(new, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            Path(new).rename(path)
    finally:
        Path(new).unlink(missing_ok=True)


def set_aside(path: str) -> str:
    """Rename a damaged database with all that belongs to it.

    Returns:
        Its new path.

    Raises:
        OSError: It cannot be renamed.
    """
    aside = f"{path}.corrupt-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{token_hex(2)}"
    for side in FILE_SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            Path(path + side).rename(aside + side)
    return aside


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreBusy("another process is creating it") from error
        try:
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # also for a child that was forked meanwhile
    finally:
        os.close(descriptor)
