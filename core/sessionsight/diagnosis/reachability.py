"""Checks whether each vendor's server responds, and that of a spool, without sending a key or a record."""

from __future__ import annotations

import time
from threading import Thread

from sessionsight.client import Client
from sessionsight.delivery.httpx_transport import HttpxTransport
from sessionsight.delivery.transport import TimeLimits, TransportError
from sessionsight.destinations.base import VendorRequest
from sessionsight.diagnosis.configuration import urls
from sessionsight.diagnosis.findings import Finding
from sessionsight.diagnosis.redis_server import check_redis
from sessionsight.diagnosis.sql_database import check_sqlalchemy
from sessionsight.errors import ConfigurationError
from sessionsight.settings import Settings
from sessionsight.spool_url import is_redis, sqlalchemy_url

__all__ = ["check_reachability"]


def check_reachability(client: Client, timeout: float = 5.0) -> list[Finding]:
    """Send a GET request to the URL of each destination, with the proxy and certificates of the settings.

    Any response counts as success, because these URLs accept records and have no pages. Only a record can verify the
    key: see `diagnosis.send_test_event`. The server of a Redis spool is asked for its configuration, and the
    database of SQLAlchemy for its tables.

    Args:
        client: The client. Its destinations that have no URL, such as `console`, are skipped.
        timeout: Seconds to wait for all of them together.

    Example:
        >>> from sessionsight.destinations import Console
        >>> check_reachability(Client(Settings(destinations=(Console(),))))
        []
    """
    settings = client.settings
    if settings.disabled:
        return []
    deadline = time.monotonic() + timeout
    probes = [
        _Probe(destination.name, url, settings, timeout)
        for destination in settings.destinations
        for url in urls(destination).values()
    ]
    for probe in probes:
        probe.start()
    findings: list[Finding] = []
    if is_redis(settings.spool):
        findings = check_redis(settings.spool, timeout)
    elif sqlalchemy_url(settings.spool) is not None:
        findings = check_sqlalchemy(settings.spool, timeout)
    return findings + [probe.result(deadline) for probe in probes]


class _Probe(Thread):
    """Sends a request to one URL. A daemon thread, because name resolution cannot be interrupted."""

    def __init__(self, name: str, url: str, settings: Settings, timeout: float) -> None:
        super().__init__(name="sessionsight-probe", daemon=True)
        self._subject = name
        self._url = url
        self._timeout = timeout
        self._limits = TimeLimits(connect=timeout, read=timeout, total=timeout)
        self._transport = HttpxTransport.from_options(settings)
        self._finding: Finding | None = None

    def run(self) -> None:
        """Send the request."""
        request = VendorRequest(method="GET", url=self._url, headers={}, body=b"", entries=())
        try:
            status = self._transport.send(request, self._limits).status
        except (TransportError, ConfigurationError) as error:
            self._finding = self._unreachable(str(error))
        else:
            self._finding = self._reachable(status)
        finally:
            self._transport.close()

    def result(self, deadline: float) -> Finding:
        """Return the finding, waiting until the deadline at most."""
        self.join(max(deadline - time.monotonic(), 0))
        return self._finding or self._unreachable(f"no response within {self._timeout:g} s")

    def _reachable(self, status: int) -> Finding:
        if status >= 500:
            message = f"{self._url} answers, but with HTTP {status}"
            return Finding(level="warning", subject=self._subject, message=message, hint="check the vendor's status")
        return Finding(level="ok", subject=self._subject, message=f"{self._url} answers")

    def _unreachable(self, reason: str) -> Finding:
        message = f"{self._url} does not answer: {reason}"
        hint = "check the URL, the network and the proxy"
        return Finding(level="error", subject=self._subject, message=message, hint=hint)
