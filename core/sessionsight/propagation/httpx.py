"""Passes the visitor's ids on in requests of httpx and httpx2, by an event hook or a transport.

The hook keeps the client's own transport, with its proxies. The transport leaves the request itself unchanged, so that
logs of `response.request` do not contain the ids. Neither imports a library: both work with whichever is used.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from itertools import count
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from sessionsight.propagation.headers import Propagation

__all__ = ["propagate", "propagating_transport"]

_Transport = TypeVar("_Transport")

# Tells the hooks of a process apart; the `id` of one that is gone may be another's.
_numbers = count()


def propagate(*hosts: str) -> Callable[..., Any]:
    """Return a request hook for a `Client` or an `AsyncClient` that adds the current visitor's ids.

    A request that is redirected to a host which is not listed is sent without them.

    Args:
        *hosts: The only hosts that receive the ids, such as `"api.example.com"`, `"api.example.com:8443"`,
            `"*.example.com"` for its subdomains, or `".example.com"` for both.

    Raises:
        ConfigurationError: There is no host, or one of them is not a host.

    Example:
        >>> import httpx
        >>> client = httpx.Client(event_hooks={"request": [propagate("api.example.com")]})
        >>> client.close()
    """
    return _EventHook(Propagation(hosts))


def propagating_transport(transport: _Transport, *hosts: str) -> _Transport:
    """Return a transport that adds the current visitor's ids and sends requests by another transport.

    Args:
        transport: Sends the requests: any transport of httpx or httpx2, sync or async.
        *hosts: As for `propagate`.

    Raises:
        ConfigurationError: There is no host, or one of them is not a host.

    Example:
        >>> import httpx
        >>> transport = propagating_transport(httpx.HTTPTransport(retries=2), "api.example.com")
        >>> httpx.Client(transport=transport).close()
    """
    return cast("_Transport", _PropagatingTransport(transport, Propagation(hosts)))


class _EventHook:
    def __init__(self, propagation: Propagation) -> None:
        self._propagation = propagation
        self._mark = f"sessionsight-{next(_numbers)}"

    def __call__(self, request: Any) -> _Done:
        """Add the ids to a request that is about to be sent. The result may be awaited, as an `AsyncClient` does."""
        headers, mark = request.headers, self._mark
        # httpx copies headers and extensions to the request that follows a redirect, but not the Cookie header. The
        # caller may also send a request again, for another visitor.
        for name, (before, value) in request.extensions.get(mark, {}).items():
            if headers.get(name) == value:
                del headers[name]
                if before:
                    headers[name] = before
        added = _headers_for(self._propagation, request)
        if added or mark in request.extensions:
            changes = {name: ("; ".join(headers.get_list(name)), value) for name, value in added.items()}
            request.extensions = {**request.extensions, mark: changes}
        headers.update(added)
        return _DONE


class _Done:
    """The result of a hook, with nothing to wait for."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


_DONE = _Done()


class _PropagatingTransport:
    def __init__(self, transport: Any, propagation: Propagation) -> None:
        self._transport = transport
        self._propagation = propagation

    def handle_request(self, request: Any) -> Any:
        return self._transport.handle_request(self._with_ids(request))

    async def handle_async_request(self, request: Any) -> Any:
        return await self._transport.handle_async_request(self._with_ids(request))

    def _with_ids(self, request: Any) -> Any:
        """Return the request with the ids. It is a copy, because a redirected request has the headers of this one."""
        added = _headers_for(self._propagation, request)
        if not added:
            return request
        headers = request.headers.copy()
        headers.update(added)
        return type(request)(
            request.method, request.url, headers=headers, stream=request.stream, extensions=request.extensions
        )

    def close(self) -> None:
        self._transport.close()

    async def aclose(self) -> None:
        await self._transport.aclose()

    def __enter__(self) -> Self:
        self._transport.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._transport.__exit__(kind, error, traceback)

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._transport.__aexit__(kind, error, traceback)


def _headers_for(propagation: Propagation, request: Any) -> dict[str, str]:
    url, headers = request.url, request.headers
    # `get` would join several Cookie headers by commas.
    cookie = "; ".join(headers.get_list("cookie"))
    return propagation.headers(url.scheme, url.raw_host.decode("ascii"), url.port, given=headers, cookie=cookie)
