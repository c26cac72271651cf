"""Destinations at the local server, as an app would configure them."""

from __future__ import annotations

from typing import Any

from sessionsight.delivery.transport import TimeLimits, Transport
from sessionsight.destinations.base import Destination, VendorRequest, VendorResponse

Destinations = dict[str, dict[str, Any]]


def analyse(url: str, **options: Any) -> Destinations:
    """Events, a hundred a call by default."""
    return {"analyse": {"public_key": "pk_live_bench", "host": url, **options}}


def signal(url: str, **options: Any) -> Destinations:
    """Events, twenty a call and compressed by default."""
    return {"signal": {"api_key": "bench", "project_id": "shop", "endpoint": url, **options}}


def saytics(url: str, **options: Any) -> Destinations:
    """Events, a hundred a call by default; without the plan's rate limit, which would be all that one sees."""
    limits = {"plan": "enterprise", "batch_size": 100, "calls_per_minute": 10_000_000}
    return {"saytics": {"secret_key": "sk_live_bench", "api_url": url, **limits, **options}}


def sessionsight(url: str) -> Destinations:
    """Goals, one a call, eight calls at a time."""
    return {"sessionsight": {"secret_api_key": "sessionsight_sec_bench", "property_id": "shop", "api_url": url}}


def all_four(url: str) -> Destinations:
    return {**sessionsight(url), **signal(url), **saytics(url), **analyse(url)}


class Nowhere:
    """A transport that has delivered everything before it is asked."""

    def send(self, call: VendorRequest, limits: TimeLimits) -> VendorResponse:
        return VendorResponse(status=200, body=b"{}")

    def close(self) -> None:
        pass


def nowhere(destination: Destination) -> Transport:
    return Nowhere()
