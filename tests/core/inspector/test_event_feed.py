"""The feed of a store's changes while nothing happens, and when its listener is gone."""

from __future__ import annotations

import asyncio

import pytest

from sessionsight.inspector.api import _Api
from sessionsight.inspector.event_feed import EventFeed, _notify
from sessionsight.inspector.fault_injection import Injector
from sessionsight.inspector.filters import Filter
from sessionsight.inspector.store import Store


@pytest.fixture
def feed(store: Store) -> EventFeed:
    return EventFeed(store, heartbeat=0.001)


async def test_a_feed_reports_that_nothing_has_changed(feed: EventFeed) -> None:
    news = []
    async for item in feed.follow(Filter(), after=0):
        news.append(item)
        feed.close()
    assert news == ["heartbeat"]


async def test_a_stream_without_news_is_kept_open_by_comments(store: Store, feed: EventFeed) -> None:
    sent = []
    async for part in _Api(store, feed, Injector())._events(Filter(), 0):
        sent.append(part)
        if len(sent) == 2:
            feed.close()
    assert sent == [b"retry: 1000\n\n", b": nothing new\n\n"]


def test_a_change_after_the_end_of_a_listeners_event_loop_is_ignored() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    _notify(loop, asyncio.Event())
