"""Sends HTTP calls to vendors: bounded in time and size, verified, not redirected, not traced.

httpx's transport layer is used without its client: there are no cookies, redirects or event hooks to switch off, and
tracing libraries that wrap the client do not see our calls.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit
from weakref import WeakSet

from sessionsight.delivery import threads
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.suppress_instrumentation import suppress_instrumentation
from sessionsight.delivery.transport import InvalidCall, NotSent, OutcomeUnknown, TimeLimits, TransportError
from sessionsight.destinations.base import VendorRequest, VendorResponse
from sessionsight.errors import MissingDependencyError
from sessionsight.late_import import late_import

__all__ = ["HttpxTransport", "http_library"]


# Of a lane's transport: for instance goals, refunded goals, and feedback.
_MAX_TARGETS = 8


def http_library() -> ModuleType:
    """Return httpx2 where it is installed, else httpx, of which it is the maintained successor."""
    threads.hide_trio()
    import encodings.idna  # noqa: F401  # the first connection imports it otherwise

    try:
        import httpx2 as library
    except ImportError:
        try:
            import httpx as library  # type: ignore[no-redef]
        except ImportError:
            raise MissingDependencyError("delivery needs httpx: pip install httpx") from None
    return library


class _Pool:
    """Connections that share a proxy. When it is retired, its last user closes it.

    A connection that is in use is shut down, not closed: its file descriptor might be reused by another connection
    while a thread still reads from it.
    """

    def __init__(self, transport: Any, *, proxied: bool = False) -> None:
        self.transport = transport
        self.proxied = proxied
        self.users = 0
        self.retired = False
        self._sockets: WeakSet[socket.socket] = WeakSet()
        # Re-entrant: a finalizer may close a transport. A set that another thread adds to cannot be iterated over.
        self._lock = threading.RLock()

    def add_socket(self, connection: socket.socket) -> None:
        """Add the socket of a new connection."""
        with self._lock:
            self._sockets.add(connection)

    def shutdown_sockets(self) -> None:
        """End all waits for a reply."""
        with self._lock:
            connections = list(self._sockets)
        for connection in connections:
            _shutdown(connection)


class _CallTrace:
    """Receives httpx's trace events of one call."""

    def __init__(self, pool: _Pool, deadline: float, extensions: dict[str, Any]) -> None:
        self._pool = pool
        self._deadline = deadline
        self._extensions = extensions
        self.request_started = False
        """True once the vendor, or a proxy, may have received part of the call."""
        extensions["trace"] = self.on_event

    def on_event(self, event: str, info: dict[str, Any]) -> None:
        """Handle an event; see https://www.encode.io/httpcore/extensions/#trace."""
        if event.endswith(".send_request_headers.started"):
            self.request_started = True
            # A tenth of a call's cost is events that follow. Only a proxy's tunnel opens its connection in between.
            if not self._pool.proxied:
                self._extensions.pop("trace", None)
        elif event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            connection = info["return_value"].get_extra_info("socket")
            self._pool.add_socket(connection)
            if self._pool.retired or time.monotonic() >= self._deadline:
                _shutdown(connection)  # the call has timed out


class _Target(NamedTuple):
    """The address and the headers that calls have in common, as httpx's values."""

    url: Any
    headers: Any


class HttpxTransport:
    """A `Transport` over httpx or httpx2, with one connection pool for each lane.

    Args:
        connections: Size of the pool.
        proxy: URL of an HTTP proxy; by default the environment's, if trusted.
        ca_bundle: File of certificates to trust in place of the defaults.
        trust_env: Use the proxy and certificate variables of the environment.
        max_response_bytes: Bytes of a reply that are read.
        library: httpx or httpx2; by default the newest that is installed.
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
        self._proxies: dict[str, str | None] = {}
        self._targets: dict[tuple[object, ...], _Target] = {}

    @classmethod
    def from_options(cls, options: DeliveryOptions, *, connections: int = 1) -> Self:
        """Return a transport with the proxy, the certificates and the limits of the settings."""
        return cls(
            connections=connections,
            proxy=options.proxy,
            ca_bundle=options.ca_bundle,
            trust_env=options.trust_env,
            max_response_bytes=options.max_response_bytes,
        )

    def send(self, call: VendorRequest, limits: TimeLimits) -> VendorResponse:
        """Send the call once.

        Each wait is bounded, and reading the body by `limits.total` as well. A name server or a head that drips cannot
        be bounded here; `SenderPool` times such a call out.
        """
        deadline = time.monotonic() + limits.total
        with late_import():
            library = self._library or self._find_library()
            target = self._target(library, call)
            pool = self._acquire_pool(library, call.url)
        timeouts = {"connect": limits.connect, "read": limits.read, "write": limits.read, "pool": limits.connect}
        request = library.Request(
            call.method,
            target.url,
            headers=target.headers,
            stream=library.ByteStream(call.body),
            extensions={"timeout": timeouts},
        )
        if "Content-Length" in request.headers:
            request.headers["Content-Length"] = str(len(call.body))
        trace = _CallTrace(pool, deadline, request.extensions)
        try:
            with suppress_instrumentation():
                response = pool.transport.handle_request(request)
                timeouts["read"] = max(min(limits.read, deadline - time.monotonic()), 0.001)
                try:
                    body = self._read(library, response.stream, deadline)
                finally:
                    response.stream.close()
        except Exception as error:
            raise _transport_error(library, error, request_started=trace.request_started) from None
        finally:
            self._release_pool(pool)
        return VendorResponse(status=response.status_code, headers=dict(response.headers.items()), body=body)

    def close(self) -> None:
        """Close all connections. Calls in flight are aborted; later calls open new ones."""
        with self._lock:
            pools, self._pools = list(self._pools.values()), {}
            for pool in pools:
                pool.retired = True
            unused = [pool for pool in pools if not pool.users]
        for pool in pools:
            pool.shutdown_sockets()
        for pool in unused:
            pool.transport.close()

    def _find_library(self) -> ModuleType:
        self._library = http_library()
        return self._library

    def _target(self, library: ModuleType, call: VendorRequest) -> _Target:
        """Return the address and the headers of a call, which are kept, because parsing them is a fifth of its cost.

        A lane has few of them: a vendor has few addresses, and a key seldom changes.
        """
        key = (call.method, call.url, not call.body, *call.headers.items())
        target = self._targets.get(key)
        if target is None:
            if len(self._targets) >= _MAX_TARGETS:  # `Idempotency-Key` differs in each call
                self._targets.clear()
            target = self._targets[key] = self._create_target(library, call)
        return target

    def _create_target(self, library: ModuleType, call: VendorRequest) -> _Target:
        headers = {"User-Agent": _user_agent(), "Accept-Encoding": "identity", **call.headers}
        try:
            request = library.Request(
                call.method,
                call.url,
                # As fetch does in the vendors' SDKs; httpx would accept ASCII only.
                headers=[(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()],
                content=call.body[:1],
            )
        except Exception as error:
            # httpx rejects a URL or a header; the message must not contain the value.
            raise InvalidCall(f"the call cannot be written ({type(error).__name__})") from None
        return _Target(request.url, request.headers)

    def _read(self, library: ModuleType, stream: Any, deadline: float) -> bytes:
        """Return the start of the body. The status is known, so a body that is cut off is not an error."""
        body = b""
        try:
            for chunk in stream:
                body += chunk
                if len(body) > self._max_response_bytes or time.monotonic() >= deadline:
                    break
        except library.TransportError:
            pass
        return body[: self._max_response_bytes]

    def _acquire_pool(self, library: ModuleType, url: str) -> _Pool:
        try:
            proxy = self._proxy or (self._proxy_for(url) if self._trust_env else None)
            with self._lock:
                pool = self._pools.get(proxy)
                if pool is None:
                    transport = self._create_transport(library, proxy)
                    pool = self._pools[proxy] = _Pool(transport, proxied=proxy is not None)
                pool.users += 1
                return pool
        except InvalidCall:
            raise
        except RuntimeError as error:  # an import failed, because the interpreter is shutting down
            raise NotSent(_describe(error)) from None
        except Exception as error:
            # The message might contain a proxy's password.
            raise InvalidCall(
                f"no connection can be made ({type(error).__name__}); check proxy and ca_bundle"
            ) from None

    def _proxy_for(self, url: str) -> str | None:
        # Cached: reading the environment takes longer than writing a small call.
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self._proxies:
            self._proxies[origin] = _environment_proxy(origin)
        return self._proxies[origin]

    def _release_pool(self, pool: _Pool) -> None:
        with self._lock:
            pool.users -= 1
            unused = pool.retired and not pool.users
        if unused:
            pool.transport.close()

    def _create_transport(self, library: ModuleType, proxy: str | None) -> Any:
        return library.HTTPTransport(
            verify=self._ssl_context(library),
            trust_env=self._trust_env,
            limits=library.Limits(
                max_connections=self._connections,
                max_keepalive_connections=self._connections,
                # Below the five seconds after which many servers close a connection: a goal that is sent at that
                # moment has an unknown outcome.
                keepalive_expiry=4.0,
            ),
            proxy=proxy,
        )

    def _ssl_context(self, library: ModuleType) -> Any:
        import ssl

        if self._ca_bundle is None:
            variables = (os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")) if self._trust_env else ()
            return _default_ssl_context(library.create_ssl_context, ssl.SSLContext, *variables)
        try:
            verify = ssl.create_default_context(cafile=self._ca_bundle)
        except OSError as error:
            raise InvalidCall(f"ca_bundle {self._ca_bundle!r} cannot be used: {error}") from None
        return library.create_ssl_context(verify=verify, trust_env=self._trust_env)


@lru_cache(maxsize=4)
def _default_ssl_context(create: Callable[..., Any], kind: type, *variables: str | None) -> Any:  # noqa: ARG001  # part of the key
    """Return the context for the default certificates. Lanes share it, because it takes long to load them.

    Args:
        create: The function of the HTTP library.
        kind: The class of contexts, which gevent replaces.
        *variables: The environment's certificates; none if the environment is not trusted.
    """
    return create(verify=True, trust_env=bool(variables))


def _shutdown(connection: socket.socket) -> None:
    with suppress(OSError):
        # Not the TLS socket's own method, which would reset its state while a thread reads.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _environment_proxy(origin: str) -> str | None:
    """Return the environment's proxy for a scheme and host."""
    from urllib.request import getproxies, proxy_bypass  # slower to import than this package

    parts = urlsplit(origin)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    host = parts.hostname or ""
    # NO_PROXY may name a host, or a host and its port.
    if not proxy or proxy_bypass(host) or proxy_bypass(f"{host}:{parts.port}"):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _transport_error(library: ModuleType, error: Exception, *, request_started: bool) -> TransportError:
    if isinstance(error, library.LocalProtocolError | library.UnsupportedProtocol):
        return InvalidCall(type(error).__name__)
    never_sent = library.ConnectError | library.ConnectTimeout | library.PoolTimeout | library.ProxyError
    if request_started and not isinstance(error, never_sent):
        return OutcomeUnknown(_describe(error))
    return NotSent(_describe(error))


def _describe(error: Exception) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@lru_cache(maxsize=1)
def _user_agent() -> str:
    from importlib import metadata

    try:
        return f"sessionsight-python/{metadata.version('sessionsight')}"
    except metadata.PackageNotFoundError:
        return "sessionsight-python/0"
