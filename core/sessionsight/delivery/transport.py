"""One HTTP call to a vendor: bounded in time and size, verified, not redirected, not instrumented.

httpx's transport layer is used without its client: there are no cookies, redirects or event hooks
to switch off, and tracing libraries that wrap the client do not see our calls.
"""

from __future__ import annotations

import gzip
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from types import ModuleType
from typing import Any, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from msgspec import Struct

from sessionsight.destinations.base import HttpCall, HttpReply
from sessionsight.errors import MissingDependencyError

__all__ = [
    "HttpxTransport",
    "NotSent",
    "OutcomeUnknown",
    "TimeLimits",
    "Transport",
    "TransportError",
    "Unsendable",
    "compressed",
]


class TransportError(Exception):
    """A call without a usable reply. The children say what the vendor may have seen of it."""


class NotSent(TransportError):
    """The vendor has certainly not taken the call: no connection was made."""


class OutcomeUnknown(TransportError):
    """The call was written, wholly or in part, and nobody knows what became of it."""


class Unsendable(TransportError):
    """The call can never be sent as it is, for instance with a line break in a key."""


class TimeLimits(Struct, frozen=True, kw_only=True):
    """How long a call may take, in seconds."""

    connect: float
    read: float
    total: float

    def within(self, seconds: float) -> TimeLimits:
        """The same limits, none longer than this."""
        seconds = max(seconds, 0.001)
        return TimeLimits(
            connect=min(self.connect, seconds), read=min(self.read, seconds), total=min(self.total, seconds)
        )


class Transport(Protocol):
    """Sends a call and gives the reply. Used by several threads at a time."""

    def send(self, call: HttpCall, limits: TimeLimits) -> HttpReply:
        """Send the call once.

        Raises:
            TransportError: There is no usable reply.
        """

    def close(self) -> None:
        """Close all connections."""


def compressed(call: HttpCall, above: int | None) -> HttpCall:
    """The call with a gzip body, if its vendor takes that and the body is large enough."""
    if above is None or len(call.body) <= above:
        return call
    return HttpCall(
        method=call.method,
        url=call.url,
        headers={**call.headers, "Content-Encoding": "gzip"},
        body=gzip.compress(call.body, compresslevel=5, mtime=0),
        entries=call.entries,
    )


def http_library() -> ModuleType:
    """httpx2 where it is installed, else httpx, of which it is the maintained successor."""
    try:
        import httpx2 as library
    except ImportError:
        try:
            import httpx as library  # type: ignore[no-redef]
        except ImportError:
            raise MissingDependencyError("delivery needs httpx: pip install httpx") from None
    return library


class HttpxTransport:
    """A `Transport` over httpx or httpx2, with one connection pool for each lane.

    Args:
        connections: How many connections are kept.
        proxy: Address of an HTTP proxy; otherwise the environment decides, if trusted.
        ca_bundle: A file of certificates to trust in place of the defaults.
        trust_env: Whether proxy and certificate variables of the environment count.
        max_response_bytes: How much of a reply is read.
        library: httpx or httpx2; the newest that is installed by default.
    """

    def __init__(
        self,
        *,
        connections: int = 1,
        proxy: str | None = None,
        ca_bundle: str | None = None,
        trust_env: bool = True,
        max_response_bytes: int = 64 * 1024,
        library: ModuleType | None = None,
    ) -> None:
        self._connections = connections
        self._proxy = proxy
        self._ca_bundle = ca_bundle
        self._trust_env = trust_env
        self._max_response_bytes = max_response_bytes
        self._library = library
        self._lock = threading.Lock()
        self._pools: dict[str | None, Any] = {}
        self._user_agent = f"sessionsight-python/{_version()}"

    def send(self, call: HttpCall, limits: TimeLimits) -> HttpReply:
        """Send the call once, in at most `limits.total` seconds after the name has been looked up."""
        deadline = time.monotonic() + limits.total
        library = self._load()
        try:
            request = library.Request(
                call.method,
                call.url,
                headers={"User-Agent": self._user_agent, "Accept-Encoding": "identity", **call.headers},
                content=call.body,
                extensions={
                    "timeout": {
                        "connect": limits.connect,
                        "read": limits.read,
                        "write": limits.read,
                        "pool": limits.connect,
                    }
                },
            )
        except Exception as error:
            # Whatever httpx finds wrong with an address or a header; the message must not show the value.
            raise Unsendable(f"the call cannot be written ({type(error).__name__})") from None
        with _not_instrumented(), _translated(library):
            response = self._pool(call.url).handle_request(request)
            try:
                body = self._read(library, response, deadline)
            finally:
                response.close()
        headers = {name.lower(): value for name, value in response.headers.items()}
        return HttpReply(status=response.status_code, headers=headers, body=body)

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            pool.close()

    def _read(self, library: ModuleType, response: Any, deadline: float) -> bytes:
        """The start of the body. The status has been seen by now: a body that breaks off changes nothing."""
        body = b""
        try:
            for chunk in response.iter_raw():
                body += chunk
                if len(body) >= self._max_response_bytes or time.monotonic() >= deadline:
                    break
        except library.TransportError:
            pass
        return body[: self._max_response_bytes]

    def _load(self) -> ModuleType:
        if self._library is None:
            self._library = http_library()
        return self._library

    def _pool(self, url: str) -> Any:
        proxy = self._proxy or (_environment_proxy(url) if self._trust_env else None)
        with self._lock:
            if proxy not in self._pools:
                library = self._load()
                self._pools[proxy] = library.HTTPTransport(
                    verify=library.create_ssl_context(verify=self._verify(), trust_env=self._trust_env),
                    trust_env=self._trust_env,
                    limits=library.Limits(
                        max_connections=self._connections,
                        max_keepalive_connections=self._connections,
                        keepalive_expiry=5.0,
                    ),
                    proxy=proxy,
                )
            return self._pools[proxy]

    def _verify(self) -> Any:
        if self._ca_bundle is None:
            return True
        import ssl

        return ssl.create_default_context(cafile=self._ca_bundle)


def _environment_proxy(url: str) -> str | None:
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy is None or proxy_bypass(parts.hostname or ""):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


@contextmanager
def _translated(library: ModuleType) -> Iterator[None]:
    try:
        yield
    except (library.ConnectError, library.ConnectTimeout, library.PoolTimeout, library.ProxyError) as error:
        raise NotSent(_words(error)) from None
    except (library.LocalProtocolError, library.UnsupportedProtocol) as error:
        raise Unsendable(type(error).__name__) from None
    except library.TransportError as error:
        raise OutcomeUnknown(_words(error)) from None


def _words(error: Exception) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextmanager
def _not_instrumented() -> Iterator[None]:
    """OpenTelemetry's own mark for calls that must not become spans, where it is in use."""
    api = sys.modules.get("opentelemetry.context")
    if api is None:
        yield
        return
    values = api.get_current()
    for mark in ("suppress_instrumentation", "suppress_http_instrumentation"):
        values = api.set_value(mark, True, values)
    token = api.attach(values)
    try:
        yield
    finally:
        api.detach(token)


def _version() -> str:
    try:
        return metadata.version("sessionsight")
    except metadata.PackageNotFoundError:
        return "0"
