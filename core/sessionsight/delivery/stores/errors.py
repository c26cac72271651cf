"""What can be wrong with a spool's file, in our own words.

StoreError
├── StoreBusy       somebody else is writing; try again
├── ReentrantCall     this thread is writing, and was interrupted by something that wants to write as well
├── StoreUnavailable   it cannot be read or written now: read-only, out of reach
│   ├── StoreFull       there is no room for more; what is in it can be read
│   ├── UnencodableRecord a record has no bytes; nothing is wrong with the file
│   └── ForeignDatabase    nothing of this process is in it: there is no such folder, it is a database of something else
│       └── UnsupportedSchema      a newer release of ours has made it; it is left alone
└── CorruptStore    it is no database, or a damaged one
"""

from __future__ import annotations

import sqlite3

__all__ = [
    "CorruptStore",
    "ForeignDatabase",
    "ReentrantCall",
    "StoreBusy",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "UnencodableRecord",
    "UnsupportedSchema",
    "map_sqlite_error",
]


class StoreError(Exception):
    """The file could not be used. Never leaves the spool."""


class StoreBusy(StoreError):
    """Somebody else is writing, and was not done in time."""


class ReentrantCall(StoreError):
    """This very thread is writing: a signal handler or a finalizer has interrupted it. Waiting would not help."""


class StoreUnavailable(StoreError):
    """The file cannot be read or written for the time being."""


class StoreFull(StoreUnavailable):
    """There is no room for more: on the disk, in a quota, within a limit on files."""


class UnencodableRecord(StoreUnavailable):
    """A record cannot be written, now or later: it holds what somebody has put there by hand."""


class ForeignDatabase(StoreUnavailable):
    """There is no file that we could use, nor anything of this process in the one that is there."""


class UnsupportedSchema(ForeignDatabase):
    """The file's schema is newer than this release knows."""


class CorruptStore(StoreError):
    """The file is no database, or a damaged one."""


# Primary result codes: https://www.sqlite.org/rescode.html
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# Extended ones, by which SQLite tells of quotas and limits, and of a disk that has no room for the log's index.
_UNWRITTEN = frozenset({sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_SHMSIZE})


def map_sqlite_error(error: sqlite3.Error) -> StoreError:
    """What an error of sqlite3's means for the spool."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if isinstance(code, int) else None
    if primary in _BUSY:
        return StoreBusy(str(error))
    if primary in _CORRUPT:
        return CorruptStore(str(error))
    if primary == sqlite3.SQLITE_FULL:
        return StoreFull(str(error))
    if code in _UNWRITTEN:
        return StoreFull(
            f"{error} ({error.sqlite_errorname}: is the disk full, or a quota or a limit on files reached?)"
        )
    return StoreUnavailable(str(error))
