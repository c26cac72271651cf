"""The four vendors' protocols on one port: which endpoint a request is for."""

from __future__ import annotations

from sessionsight.inspector.ingest.analyse import Analyse
from sessionsight.inspector.ingest.base import Endpoint, Ingest
from sessionsight.inspector.ingest.saytics import Saytics
from sessionsight.inspector.ingest.sessionsight import SessionSight
from sessionsight.inspector.ingest.signal import Signal

__all__ = ["INGESTS", "endpoints_at"]

INGESTS: tuple[Ingest, ...] = (SessionSight(), Signal(), Saytics(), Analyse())


def endpoints_at(path: str) -> tuple[Ingest | None, list[Endpoint]]:
    """Return the vendor of a path, and its endpoints, one per method. No two vendors share a path."""
    for ingest in INGESTS:
        if found := [endpoint for endpoint in ingest.endpoints if endpoint.matches(path)]:
            exact = [endpoint for endpoint in found if endpoint.path == path]
            return ingest, exact or found
    return None, []
