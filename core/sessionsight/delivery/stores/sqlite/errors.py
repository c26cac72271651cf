"""Mapping of the errors of sqlite3 and of files to those of stores."""

from __future__ import annotations

import sqlite3

from sessionsight.delivery.stores.errors import (
    CorruptStore,
    ForeignDatabase,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreUnavailable,
)

__all__ = ["map_error"]

# Primary result codes: https://www.sqlite.org/rescode.html
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# Extended result codes for quotas and file size limits, and for a disk without space for the log's index.
_NO_SPACE = frozenset({sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_SHMSIZE})


def map_error(error: sqlite3.Error | OSError) -> StoreError:
    """Return the store error for an error of sqlite3, or of a file."""
    if isinstance(error, OSError):
        return (ForeignDatabase if isinstance(error, FileNotFoundError) else StoreUnavailable)(str(error))
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if isinstance(code, int) else None
    if primary in _BUSY:
        return StoreBusy(str(error))
    if primary in _CORRUPT:
        return CorruptStore(str(error))
    if primary == sqlite3.SQLITE_FULL:
        return StoreFull(str(error))
    if code in _NO_SPACE:
        name = error.sqlite_errorname
        return StoreFull(f"{error} ({name}: is the disk full, or a quota or a limit on files reached?)")
    return StoreUnavailable(str(error))
