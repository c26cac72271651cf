"""Delivers the records of every client of the process to an inspector."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from sessionsight.delivery.engine import Engine
from sessionsight.destinations import BY_NAME, SessionSight, Signal
from sessionsight.destinations.base import Destination, VendorDestination
from sessionsight.log import ThrottledLogger

if TYPE_CHECKING:
    from sessionsight.client import Client

__all__ = ["InspectorRedirect"]

# Options that do not determine where records go, so that a test sees the client's own values.
_KEPT = frozenset({"property_id", "project_id"})


class InspectorRedirect:
    """One engine for each client, with the client's settings and lanes, that sends to an inspector.

    A client without destinations, or a disabled one, gets all four vendors. Other destinations than vendors receive
    nothing, because an inspector does not implement their protocols.

    Args:
        options: The options of each vendor that select the inspector: its URL, and test keys.
    """

    def __init__(self, options: Mapping[str, Mapping[str, str]]) -> None:
        self._options: dict[type[VendorDestination], dict[str, Any]] = {
            BY_NAME[vendor]: dict(given) for vendor, given in options.items()
        }
        self._options[SessionSight]["flags_timeout"] = 10.0  # it is near, but the machine may be busy
        self._options[Signal]["ingest_path"] = Signal(api_key="test").ingest_path
        self._engines: dict[tuple[int, Client], Engine] = {}

    def engine_for(self, client: Client) -> Engine:
        """Return the client's engine in this process."""
        key = os.getpid(), client
        engine = self._engines.get(key)
        if engine is None:
            # Without a lock, which a fork could inherit: one of several threads sets the engine.
            engine = self._engines.setdefault(key, self._make_engine(client))
        return engine

    def blocks(self, destination: object) -> bool:
        """Return whether a destination does not send to the inspector."""
        return not isinstance(destination, VendorDestination) or self._redirected(destination) != destination

    def close(self) -> None:
        """Stop the engines of this process and discard undelivered records."""
        pid = os.getpid()
        for engine in [engine for (owner, _), engine in self._engines.items() if owner == pid]:
            engine.close()

    def _make_engine(self, client: Client) -> Engine:
        settings = client.settings
        destinations = [
            redirected for one in settings.destinations if (redirected := self._redirected(one)) is not None
        ]
        if not settings.destinations:
            destinations = [vendor(**options) for vendor, options in self._options.items()]
        # The server is on this machine, and a test waits for it. Records of tests do not belong in a durable spool.
        settings = replace(
            settings, linger=0, proxy=None, ca_bundle=None, trust_env=False, spool="memory", delivery="background"
        )
        return Engine(destinations, settings, ThrottledLogger(), spool=settings.spool)

    def _redirected(self, destination: Destination) -> Destination | None:
        for vendor, options in self._options.items():
            if isinstance(destination, vendor):
                return replace(destination, **{name: options[name] for name in options.keys() - _KEPT})
        return None
