"""Options of an inspector."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from sessionsight.inspector.fault_injection import Faults
from sessionsight.inspector.model import Vendor
from sessionsight.inspector.store import MAX_RECORDS

__all__ = ["DEFAULT_PORT", "Options"]

DEFAULT_PORT = 7717


class Options(Struct, frozen=True, kw_only=True):
    """An inspector's options.

    Example:
        >>> Options(port=0, keys={"signal": frozenset({"key_1"})})  # doctest: +ELLIPSIS
        Options(host='127.0.0.1', port=0, ...)
    """

    host: str = "127.0.0.1"
    """Where it listens. By default nobody but this machine can reach it, by none but a loopback name."""
    port: int = DEFAULT_PORT
    """0 is any that is free."""
    db: str = ":memory:"
    """A file that keeps what was received."""
    spool: str | None = None
    """The durable spool that the health page shows: a URL as in the setting `spool`, or the path of a file."""
    keys: Mapping[Vendor, frozenset[str]] = {}
    """The keys that a vendor takes; any, where none is given."""
    faults: Faults = Faults()
    """Initial faults; the health page and the API can change them."""
    max_records: int = MAX_RECORDS
    """How many records are kept."""
