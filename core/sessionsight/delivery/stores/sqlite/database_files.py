"""Creates a store's file, and moves it away if it is damaged, without touching other programs' files."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from secrets import token_hex

from sessionsight.delivery.stores.errors import ForeignDatabase, StoreBusy

__all__ = ["FILE_SUFFIXES", "Identity", "create", "identity", "quarantine"]

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
    if Path(path).exists():
        return
    folder = Path(path).parent
    with _locked(folder):
        if Path(path).exists():
            return
        for beside in (f"{path}-journal", f"{path}-wal", f"{path}-shm"):
            found = identity(beside)
            if found is not None and found not in known:
                raise ForeignDatabase(
                    f"there is {beside} without its database, and it may belong to another program; delete it if it "
                    "belongs to a deleted spool"
                )
            Path(beside).unlink(missing_ok=True)
        _create_private(path, folder.stat())


def _create_private(path: str, folder: os.stat_result) -> None:
    """Create an empty file under a temporary name, and link it to its path once it is closed.

    Closing a file drops all locks that the process has on it, including those of another thread's connection.
    """
    new = f"{path}.new-{token_hex(4)}"
    descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            if os.geteuid() == 0:  # the app's own user must be able to open a file that a job of root creates
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


def quarantine(path: str) -> str:
    """Rename a damaged database and the files beside it.

    Returns:
        Its new path.

    Raises:
        OSError: It cannot be renamed.
    """
    moved_to = f"{path}.corrupt-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{token_hex(2)}"
    for suffix in FILE_SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            Path(path + suffix).rename(moved_to + suffix)
    return moved_to


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise StoreBusy("another process is creating it") from error
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child that was forked meanwhile keeps the descriptor open
        os.close(descriptor)
