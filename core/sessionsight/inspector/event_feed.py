"""Follows a store: who waits is woken by each change, and reads on from where it was.

Nothing is queued for a listener, so a slow one costs nothing; when it has fallen too far behind it is told
to start afresh.
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
"""Records that a listener may be behind."""

FeedItem = InspectedRecord | Literal["cleared", "reload", "quiet"]


class EventFeed:
    """Tells of a store's changes until it is closed."""

    def __init__(self, store: Store, *, heartbeat: float = 15.0) -> None:
        self._store = store
        self._heartbeat = heartbeat
        self._bells: set[asyncio.Event] = set()
        self._closed = False

    def close(self) -> None:
        """End all that follows and waits; called on the event loop."""
        self._closed = True
        for bell in self._bells:
            bell.set()

    async def follow(self, wanted: Filter, *, after: int) -> AsyncIterator[FeedItem]:
        """The wanted records newer than `after`, and on.

        Between them stand `"cleared"` when everything was removed, `"reload"` when there were too many
        to send, and `"quiet"` when nothing has happened for a while.
        """
        cleared = self._store.cleared
        with self._bell() as bell:
            while not self._closed:
                bell.clear()
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
                if not news and not await _rings(bell, self._heartbeat):
                    yield "quiet"

    async def wait_for(self, wanted: Filter, count: int, *, timeout: float) -> int:
        """Wait until there are so many of the wanted records; gives how many there are then, or in the end."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        with self._bell() as bell:
            while True:
                bell.clear()
                found = await run_in_threadpool(self._store.count, wanted)
                if found >= count or self._closed or not await _rings(bell, deadline - loop.time()):
                    return found

    @contextmanager
    def _bell(self) -> Iterator[asyncio.Event]:
        bell = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._bells.add(bell)
        try:
            with self._store.listening(lambda _: _ring(loop, bell)):
                yield bell
        finally:
            self._bells.discard(bell)


def _ring(loop: asyncio.AbstractEventLoop, bell: asyncio.Event) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(bell.set)


async def _rings(bell: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(bell.wait(), max(seconds, 0.0))
    except TimeoutError:
        return False
    return True
