"""Jobs report to a vendor under which context they run."""

from __future__ import annotations

import os
from typing import Any

import sessionsight
from sessionsight import Client, SessionSightIds, TrackingContext
from tests.support.server import PATIENCE, Server


def report(event: str, token: str, **more: Any) -> None:
    """Capture an event, within a job, that tells the current context."""
    analytics = sessionsight.current()
    found = {"token": token, "carrier": analytics.context.to_carrier(), "pid": os.getpid(), **more}
    analytics.capture(event, found, user_id="reporter")


def context_of(token: str) -> TrackingContext:
    return TrackingContext(sessionsight=SessionSightIds(session_id=token, visitor_id="visitor-1"), user_id="user-1")


def carrier_of(token: str) -> dict[str, str]:
    return {"ss_sid": token, "ss_vid": "visitor-1", "ss_user_id": "user-1"}


def configure(vendor: str, **options: Any) -> Client:
    """Set up the client of a publisher or of a worker."""
    destinations = {"analyse": {"public_key": "pk_live_1", "host": vendor}}
    return sessionsight.configure(destinations=destinations, shutdown_timeout=PATIENCE, **options)


class Shop:
    """A publisher of jobs and their workers, which deliver to the same vendor."""

    def __init__(self, vendor: Server) -> None:
        self.vendor = vendor

    def configure(self) -> Client:
        return configure(self.vendor.url)

    def events(self, name: str, token: str) -> list[dict[str, Any]]:
        """The properties of the events of this name about the token, in the order of their arrival."""
        events = [event for request in list(self.vendor.requests) for event in request.json["events"]]
        named = [event["properties"] for event in events if event["event_name"] == name]
        return [properties for properties in named if properties["token"] == token]

    def wait_for(self, number: int, token: str, name: str = "seen") -> list[dict[str, Any]]:
        """Wait until jobs have reported this about the token."""
        self.vendor.wait_until(lambda: len(self.events(name, token)) >= number, f"{number} events {name}")
        return self.events(name, token)

    def carriers(self, number: int, token: str) -> list[dict[str, str]]:
        """Wait until so many jobs have reported, and return their contexts."""
        return [event["carrier"] for event in self.wait_for(number, token)]
