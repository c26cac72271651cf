"""Whether each vendor's server answers at all, asked without a key and without a record."""

from __future__ import annotations

import time
from threading import Thread

from sessionsight.client import Client
from sessionsight.delivery.transport import HttpxTransport, TimeLimits, TransportError
from sessionsight.destinations.base import VendorRequest
from sessionsight.diagnosis.configuration import addresses
from sessionsight.diagnosis.findings import Finding
from sessionsight.errors import ConfigurationError
from sessionsight.settings import Settings

__all__ = ["check_reachability"]


def check_reachability(client: Client, timeout: float = 5.0) -> list[Finding]:
    """Ask the address of each destination for its page, over the proxy and with the certificates of the settings.

    Any answer will do, since these addresses take records and have no pages. Whether the key is right, only a
    record can tell: `diagnosis.send_test_event`.

    Args:
        client: Whose destinations; those that have no address, such as `console`, are left out.
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
    questions = [
        _Question(destination.name, address, settings, timeout)
        for destination in settings.destinations
        for address in addresses(destination).values()
    ]
    for question in questions:
        question.start()
    return [question.outcome(deadline) for question in questions]


class _Question(Thread):
    """Asks one address. A daemon, because nothing ends a name server's silence."""

    def __init__(self, name: str, address: str, settings: Settings, timeout: float) -> None:
        super().__init__(name="sessionsight-reach", daemon=True)
        self._subject = name
        self._address = address
        self._timeout = timeout
        self._limits = TimeLimits(connect=timeout, read=timeout, total=timeout)
        self._transport = HttpxTransport(
            proxy=settings.proxy,
            ca_bundle=settings.ca_bundle,
            trust_env=settings.trust_env,
            max_response_bytes=settings.max_response_bytes,
        )
        self._found: Finding | None = None

    def run(self) -> None:
        """Ask."""
        call = VendorRequest(method="GET", url=self._address, headers={}, body=b"", entries=())
        try:
            status = self._transport.send(call, self._limits).status
        except (TransportError, ConfigurationError) as error:
            self._found = self._silent(str(error))
        else:
            self._found = self._answered(status)
        finally:
            self._transport.close()

    def outcome(self, deadline: float) -> Finding:
        """What came back by then."""
        self.join(max(deadline - time.monotonic(), 0))
        return self._found or self._silent(f"nothing within {self._timeout:g} s")

    def _answered(self, status: int) -> Finding:
        if status >= 500:
            message = f"{self._address} answers, but with HTTP {status}"
            return Finding(level="warning", subject=self._subject, message=message, hint="ask the vendor how it is")
        return Finding(level="ok", subject=self._subject, message=f"{self._address} answers")

    def _silent(self, why: str) -> Finding:
        message = f"{self._address} does not answer: {why}"
        hint = "check the address, the network and the proxy"
        return Finding(level="error", subject=self._subject, message=message, hint=hint)
