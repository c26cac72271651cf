"""Feed of a store's changes: each change wakes the listeners, which then read the records they have not seen.

Nothing is queued per listener, so a slow one uses no memory. A listener that is too far behind is told to reload.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Literal

from starlette.concurrency import run_in_threadpool

from sessionsight.inspector.filters import Filter
from sessionsight.inspector.model import InspectedRecord
from sessionsight.inspector.store import Store

__all__ = ["BEHIND", "EventFeed", "FeedItem"]

BEHIND = 1000
"""Most unread records of a listener before it has to reload."""

FeedItem = InspectedRecord | Literal["cleared", "reload", "heartbeat"]


class EventFeed:
    """Reports a store's changes until it is closed."""

    def __init__(self, store: Store, *, heartbeat: float = 15.0) -> None:
        self._store = store
        self._heartbeat = heartbeat
        self._waiters: set[asyncio.Event] = set()
        self._closed = False

    def close(self) -> None:
        """End all calls of `follow` and `wait_for`. Must be called on the event loop."""
        self._closed = True
        for changed in self._waiters:
            changed.set()

    async def follow(self, wanted: Filter, *, after: int) -> AsyncIterator[FeedItem]:
        """Yield the matching records newer than `after`, and each new one.

        Also yields `"cleared"` when everything was removed, `"reload"` when there were too many
        records to send, and `"heartbeat"` when nothing has changed for `heartbeat` seconds.
        """
        cleared = self._store.cleared
        with self._waiter() as changed:
            while not self._closed:
                changed.clear()
                if cleared != self._store.cleared:
                    cleared = self._store.cleared
                    yield "cleared"
                news = await run_in_threadpool(self._store.since, after, limit=BEHIND + 1)
                if len(news) > BEHIND:
                    after = await run_in_threadpool(self._store.newest)
                    yield "reload"
                    continue
                for record in news:
                    after = record.id
                    if wanted.matches(record):
                        yield record
                if not news and not await _wait(changed, self._heartbeat):
                    yield "heartbeat"

    async def wait_for(self, wanted: Filter, count: int, *, timeout: float) -> int:
        """Wait until there are `count` matching records; return how many there are then, or at the timeout."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        with self._waiter() as changed:
            while True:
                changed.clear()
                found = await run_in_threadpool(self._store.count, wanted)
                if found >= count or self._closed or not await _wait(changed, deadline - loop.time()):
                    return found

    @contextmanager
    def _waiter(self) -> Iterator[asyncio.Event]:
        changed = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._waiters.add(changed)
        try:
            with self._store.listening(lambda _: _notify(loop, changed)):
                yield changed
        finally:
            self._waiters.discard(changed)


def _notify(loop: asyncio.AbstractEventLoop, changed: asyncio.Event) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(changed.set)


async def _wait(changed: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(changed.wait(), max(seconds, 0.0))
    except TimeoutError:
        return False
    return True
