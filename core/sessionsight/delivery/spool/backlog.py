"""A row of entries whose middle is packed tight while it waits: a vendor that is down costs less memory.

The next ones to be sent and the newest are at hand as they are. What has waited between them is bytes,
compressed by the hundreds, for the visitors of one site have much in common.
"""

from __future__ import annotations

import zlib
from collections import deque

import msgspec

from sessionsight.delivery.spool.codec import from_bytes, to_bytes
from sessionsight.records import Entry

__all__ = ["Backlog"]

# Entries in one parcel: enough to be compressed well, few enough to be packed in a few milliseconds.
_PARCEL = 256
# Seconds of waiting after which a vendor is not merely slower than a burst.
_PATIENCE = 1.0

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[bytes, float]]).decode


class Backlog:
    """Entries in the order in which they came. Not locked: its queue is."""

    __slots__ = ("_head", "_parcels", "_tail")

    def __init__(self) -> None:
        self._head: deque[Entry] = deque()
        self._parcels: deque[bytes | list[Entry]] = deque()
        self._tail: deque[Entry] = deque()

    def __len__(self) -> int:
        return len(self._head) + _PARCEL * len(self._parcels) + len(self._tail)

    def appendleft(self, entry: Entry) -> None:
        """Add one that is the next to go."""
        self._head.appendleft(entry)

    def append(self, entry: Entry) -> None:
        """Add one at the end."""
        self._tail.append(entry)

    def first(self) -> Entry:
        """The next one to go. Raises `IndexError` when there is none."""
        if not self._head:
            if self._parcels:
                self._unpack()
            else:
                self._head.extend([self._tail.popleft() for _ in range(min(_PARCEL, len(self._tail)))])
        return self._head[0]

    def popleft(self) -> Entry:
        """Take it away."""
        self.first()
        return self._head.popleft()

    def pack(self, now: float) -> None:
        """Pack what has waited for a while.

        Args:
            now: Unix seconds, as an entry's `since`.
        """
        tail = self._tail
        while len(tail) > _PARCEL and now - tail[_PARCEL - 1].since > _PATIENCE:
            self._parcels.append(_packed([tail.popleft() for _ in range(_PARCEL)]))

    def _unpack(self) -> None:
        parcel = self._parcels.popleft()
        self._head.extend(_unpacked(parcel) if isinstance(parcel, bytes) else parcel)


def _packed(entries: list[Entry]) -> bytes | list[Entry]:
    """A parcel of these; where one of them is not given back as it was, all of them as they are.

    A context that somebody has made by hand may hold anything, such as a number for a user.
    """
    try:
        parcel = zlib.compress(_encode([(to_bytes(entry), entry.since) for entry in entries]), 1)
        _unpacked(parcel)
    except Exception:
        return entries
    return parcel


def _unpacked(parcel: bytes) -> list[Entry]:
    return [from_bytes(body, since=since, row=0) for body, since in _decode(zlib.decompress(parcel))]
