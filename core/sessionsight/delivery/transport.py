"""One HTTP call to a vendor: bounded in time and size, verified, not redirected, not traced.

httpx's transport layer is used without its client: there are no cookies, redirects or event hooks
to switch off, and tracing libraries that wrap the client do not see our calls.
"""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from types import ModuleType
from typing import Any, Protocol
from urllib.parse import urlsplit
from weakref import WeakSet

from msgspec import Struct

from sessionsight.delivery import threads
from sessionsight.delivery.suppress_instrumentation import untraced
from sessionsight.destinations.base import VendorRequest, VendorResponse
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

    def send(self, call: VendorRequest, limits: TimeLimits) -> VendorResponse:
        """Send the call once.

        Raises:
            TransportError: There is no usable reply.
        """

    def close(self) -> None:
        """Close all connections."""


def compressed(call: VendorRequest, above: int | None) -> VendorRequest:
    """The call with a gzip body, if its vendor takes that and the body is large enough."""
    if above is None or len(call.body) <= above:
        return call
    return VendorRequest(
        method=call.method,
        url=call.url,
        headers={**call.headers, "Content-Encoding": "gzip"},
        # Level 1 takes half the time of the usual ones, for a tenth more bytes.
        body=gzip.compress(call.body, compresslevel=1, mtime=0),
        entries=call.entries,
    )


def http_library() -> ModuleType:
    """httpx2 where it is installed, else httpx, of which it is the maintained successor."""
    threads.hide_trio()
    try:
        import httpx2 as library
    except ImportError:
        try:
            import httpx as library  # type: ignore[no-redef]
        except ImportError:
            raise MissingDependencyError("delivery needs httpx: pip install httpx") from None
    return library


class _Pool:
    """Kept connections, all made the same way. When it is retired, its last user closes it.

    A connection that is in use is shut down, not closed: its file descriptor might be given to
    somebody else's connection while a thread still reads from it.
    """

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.users = 0
        self.retired = False
        self.sockets: WeakSet[socket.socket] = WeakSet()

    def cut(self) -> None:
        """End all waiting for a reply."""
        for connection in list(self.sockets):
            _cut(connection)


class _Flight:
    """What httpx does about one call, as far as it tells."""

    def __init__(self, pool: _Pool, deadline: float) -> None:
        self._pool = pool
        self._deadline = deadline
        self.begun = False
        """Whether the vendor, or a proxy, may have seen anything of the call."""

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Called by httpx; see https://www.encode.io/httpcore/extensions/#trace."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            connection = info["return_value"].get_extra_info("socket")
            self._pool.sockets.add(connection)
            if self._pool.retired or time.monotonic() >= self._deadline:
                _cut(connection)  # nobody waits for this call any more
        elif event.endswith(".send_request_headers.started"):
            self.begun = True


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
        self._pools: dict[str | None, _Pool] = {}
        self._found: dict[str, str | None] = {}

    def send(self, call: VendorRequest, limits: TimeLimits) -> VendorResponse:
        """Send the call once.

        Each wait is bounded, and the reply's body by `limits.total` as well. What cannot be bounded here, a
        name server or a head that drips, is given up by `Senders`.
        """
        deadline = time.monotonic() + limits.total
        library = http_library() if self._library is None else self._library
        timeouts = {"connect": limits.connect, "read": limits.read, "write": limits.read, "pool": limits.connect}
        headers = {"User-Agent": _user_agent(), "Accept-Encoding": "identity", **call.headers}
        try:
            request = library.Request(
                call.method,
                call.url,
                # As fetch does in the vendors' SDKs; httpx would write ASCII alone.
                headers=[(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()],
                content=call.body,
                extensions={"timeout": timeouts},
            )
        except Exception as error:
            # Whatever httpx finds wrong with an address or a header; the message must not show the value.
            raise Unsendable(f"the call cannot be written ({type(error).__name__})") from None
        pool = self._enter(library, call.url)
        flight = _Flight(pool, deadline)
        request.extensions["trace"] = flight.trace
        try:
            with untraced(), _translated(library, flight):
                response = pool.transport.handle_request(request)
                timeouts["read"] = max(min(limits.read, deadline - time.monotonic()), 0.001)
                try:
                    body = self._read(library, response, deadline)
                finally:
                    response.close()
        finally:
            self._leave(pool)
        replied = {name.lower(): value for name, value in response.headers.items()}
        return VendorResponse(status=response.status_code, headers=replied, body=body)

    def close(self) -> None:
        """Close all connections. Calls under way are cut off; later calls open new ones."""
        with self._lock:
            pools, self._pools = list(self._pools.values()), {}
            for pool in pools:
                pool.retired = True
            unused = [pool for pool in pools if not pool.users]
        for pool in pools:
            pool.cut()
        for pool in unused:
            pool.transport.close()

    def _read(self, library: ModuleType, response: Any, deadline: float) -> bytes:
        """The start of the body. The status has been seen by now: a body that breaks off changes nothing."""
        body = b""
        try:
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > self._max_response_bytes or time.monotonic() >= deadline:
                    break
        except library.TransportError:
            pass
        return body[: self._max_response_bytes]

    def _enter(self, library: ModuleType, url: str) -> _Pool:
        try:
            proxy = self._proxy or (self._found_proxy(url) if self._trust_env else None)
            with self._lock:
                pool = self._pools.get(proxy)
                if pool is None:
                    pool = self._pools[proxy] = _Pool(self._connect_by(library, proxy))
                pool.users += 1
                return pool
        except Unsendable:
            raise
        except RuntimeError as error:  # the interpreter ends, and refuses what an import wanted
            raise NotSent(_words(error)) from None
        except Exception as error:
            # The message might show a proxy's password.
            raise Unsendable(f"no connection can be made ({type(error).__name__}); check proxy and ca_bundle") from None

    def _found_proxy(self, url: str) -> str | None:
        # Asked for once: reading the environment takes longer than writing a small call.
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self._found:
            self._found[origin] = _environment_proxy(origin)
        return self._found[origin]

    def _leave(self, pool: _Pool) -> None:
        with self._lock:
            pool.users -= 1
            unused = pool.retired and not pool.users
        if unused:
            pool.transport.close()

    def _connect_by(self, library: ModuleType, proxy: str | None) -> Any:
        return library.HTTPTransport(
            verify=library.create_ssl_context(verify=self._verify(), trust_env=self._trust_env),
            trust_env=self._trust_env,
            limits=library.Limits(
                max_connections=self._connections,
                max_keepalive_connections=self._connections,
                # Below the five seconds after which many servers hang up: a goal that is sent while
                # they do has an unknown outcome.
                keepalive_expiry=4.0,
            ),
            proxy=proxy,
        )

    def _verify(self) -> Any:
        if self._ca_bundle is None:
            return True
        import ssl

        try:
            return ssl.create_default_context(cafile=self._ca_bundle)
        except OSError as error:
            raise Unsendable(f"ca_bundle {self._ca_bundle!r} cannot be used: {error}") from None


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        # Not the TLS socket's own method, which would take its state away from the thread that reads.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _environment_proxy(origin: str) -> str | None:
    """The proxy that the environment has for a scheme and host."""
    from urllib.request import getproxies, proxy_bypass  # costs more to import than all of ours

    parts = urlsplit(origin)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    host = parts.hostname or ""
    # NO_PROXY may name a host, or a host and its port.
    if not proxy or proxy_bypass(host) or proxy_bypass(f"{host}:{parts.port}"):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


@contextmanager
def _translated(library: ModuleType, flight: _Flight) -> Iterator[None]:
    try:
        yield
    except (library.ConnectError, library.ConnectTimeout, library.PoolTimeout, library.ProxyError) as error:
        raise NotSent(_words(error)) from None
    except (library.LocalProtocolError, library.UnsupportedProtocol) as error:
        raise Unsendable(type(error).__name__) from None
    except Exception as error:
        if flight.begun:
            raise OutcomeUnknown(_words(error)) from None
        raise NotSent(_words(error)) from None


def _words(error: Exception) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@lru_cache(maxsize=1)
def _user_agent() -> str:
    from importlib import metadata

    try:
        return f"sessionsight-python/{metadata.version('sessionsight')}"
    except metadata.PackageNotFoundError:
        return "sessionsight-python/0"
