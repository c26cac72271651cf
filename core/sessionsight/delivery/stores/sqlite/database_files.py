"""Creates a store's file without touching other programs' files."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection
from pathlib import Path

from sessionsight.delivery.stores.errors import ForeignDatabase, StoreBusy

__all__ = ["FILE_SUFFIXES", "Identity", "create", "identity"]

FILE_SUFFIXES = ("", "-wal", "-shm")
"""The suffixes of the database and of the files that SQLite keeps beside it."""

Identity = tuple[int, int]
"""Device and inode."""


def identity(path: str) -> Identity | None:
    """Return the identity of the file at a path; None if there is none."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def create(path: str, known: Collection[Identity]) -> None:
    """Create an empty database that only its user can read, if there is none.

    SQLite gives the same mode to the files beside it. A log that lies there already would be deleted by SQLite, which
    takes it for that of a deleted database, so it must be one that this process had open.

    Args:
        path: The database.
        known: The files beside a store at this path that this process had open.

    Raises:
        StoreBusy: Another process is creating it.
        ForeignDatabase: There is another log, which may belong to another program.
        OSError: It cannot be created.
    """
    folder = os.open(Path(path).parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Also before the file is used, because closing it below would drop all locks that the process has on it.
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if Path(path).exists():
            return
        for beside in (f"{path}-journal", f"{path}-wal", f"{path}-shm"):
            if identity(beside) not in {None, *known}:
                raise ForeignDatabase(
                    f"there is {beside} without its database, and it may belong to another program; delete it if it "
                    "belongs to a deleted spool"
                )
            Path(beside).unlink(missing_ok=True)
        new = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            if os.geteuid() == 0:  # the app's own user must be able to open a file that a job of root creates
                os.fchown(new, os.fstat(folder).st_uid, os.fstat(folder).st_gid)
        finally:
            os.close(new)
    except BlockingIOError as error:
        raise StoreBusy("another process is creating it") from error
    finally:
        fcntl.flock(folder, fcntl.LOCK_UN)  # a child that was forked meanwhile keeps the descriptor open
        os.close(folder)
