"""The site whose workers are killed. Each visit captures events and a goal with tokens derived from its number.

    CHAOS_SPOOL=sqlite:////tmp/spool.db CHAOS_GOALS=http://127.0.0.1:1234 CHAOS_EVENTS=http://127.0.0.1:1235 \\
        gunicorn --workers 4 tests.chaos.site:app
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from sessionsight import Settings
from sessionsight.capture.records import QueuedRecord
from sessionsight.destinations import SessionSight, Signal
from sessionsight.destinations.base import VendorRequest
from sessionsight.wsgi import ENVIRON_KEY, AnalyticsMiddleware

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

EVENTS_OF_A_VISIT = 4
BATCH = 20


def event_tokens(visit: int) -> list[str]:
    """Return the events that a visit captures."""
    first = visit * EVENTS_OF_A_VISIT
    return [f"token-event-{number}" for number in range(first, first + EVENTS_OF_A_VISIT)]


def goal_token(visit: int) -> str:
    """Return the goal that a visit captures."""
    return f"token-goal-{visit}"


class Goals(SessionSight, frozen=True, kw_only=True):
    """SessionSight with the sending process in a header of each call."""

    def build_requests(self, entries: Sequence[QueuedRecord], *, now: float) -> Iterable[VendorRequest]:
        return [_signed(call) for call in super().build_requests(entries, now=now)]


class Events(Signal, frozen=True, kw_only=True):
    """Signal with the sending process in a header of each call."""

    def build_requests(self, entries: Sequence[QueuedRecord], *, now: float) -> Iterable[VendorRequest]:
        return [_signed(call) for call in super().build_requests(entries, now=now)]


def _signed(call: VendorRequest) -> VendorRequest:
    return replace(call, headers={**call.headers, "x-worker": str(os.getpid())})


def settings(spool: str, goals: str, events: str) -> Settings:
    """Parameters of all processes of a run."""
    return Settings(
        destinations=(
            Goals(secret_api_key="sessionsight_sec_1", property_id="shop", api_url=goals),
            Events(api_key="key", project_id="shop", endpoint=events, batch_size=BATCH),
        ),
        spool=spool,  # type: ignore[arg-type, unused-ignore]
        spool_timeout=20.0,  # a record that waited in memory would be lost by a kill
        linger=0.01,
        backoff_base=0.005,
        backoff_max=0.1,
        pause_interval=0.1,
        retry_after_max=0.1,
        queue_records=1_000_000,
        queue_bytes=2**30,
        dead_letters=1_000_000,
        trust_env=False,
    )


def visited(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Serve `/17`, the seventeenth visit."""
    analytics: Any = environ[ENVIRON_KEY]
    visit = int(environ["PATH_INFO"].strip("/"))
    for token in event_tokens(visit):
        analytics.capture(token, {"visit": visit}, user_id="user_1")
    analytics.goals.increment(goal_token(visit), session_id="6f1d2c3b")
    body = b"welcome"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def __getattr__(name: str) -> Any:
    """Return `app`, created in the worker that imports it."""
    if name != "app":
        raise AttributeError(name)
    told = settings(os.environ["CHAOS_SPOOL"], os.environ["CHAOS_GOALS"], os.environ["CHAOS_EVENTS"])
    if os.environ.get("CHAOS_DELIVERY") == "relay":
        told = replace(told, delivery="relay")
    return AnalyticsMiddleware(visited, settings=told)
