"""The errors of stores.

StoreError
├── StoreBusy           another process is writing; a later attempt may succeed
├── ReentrantCall       this thread is inside a write that was interrupted by a signal handler or a finalizer
└── StoreUnavailable    the store cannot be read or written now: read-only, out of reach
    ├── AnswerLost          a call was sent to the store, and its answer has not arrived
    ├── StoreFull           there is no space for more; it can still be read
    ├── CorruptStore        the file is damaged or not a database, and is not used until it is replaced
    ├── UnencodableRecord   a record cannot be encoded; the store itself is all right
    └── ForeignDatabase     no store can be there: the folder is missing, or the database belongs to another program
        └── UnsupportedSchema   another release has created the store; it is not touched
"""

from __future__ import annotations

__all__ = [
    "AnswerLost",
    "CorruptStore",
    "ForeignDatabase",
    "ReentrantCall",
    "StoreBusy",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "UnencodableRecord",
    "UnsupportedSchema",
]


class StoreError(Exception):
    """The store could not be used. Never propagates out of a queue."""


class StoreBusy(StoreError):
    """Another process was writing until the timeout."""


class ReentrantCall(StoreError):
    """This thread is writing already: a signal handler or a finalizer has interrupted it, so waiting cannot help."""


class StoreUnavailable(StoreError):
    """The store cannot be read or written for now."""


class AnswerLost(StoreUnavailable):
    """The call may have had its effect or not, so it is repeated. All other errors mean that nothing was changed."""


class StoreFull(StoreUnavailable):
    """There is no space for more: on the disk, in a quota, or within a limit on file sizes."""


class CorruptStore(StoreUnavailable):
    """The file is damaged or not a database."""


class UnencodableRecord(StoreUnavailable):
    """A record cannot be encoded, now or later, because its context contains values of other types."""


class ForeignDatabase(StoreUnavailable):
    """There is no usable store, and no record of this process in it."""


class UnsupportedSchema(ForeignDatabase):
    """The store's schema has a version that this release does not know."""
