"""Passes the visitor's ids on in requests of aiohttp, by a client middleware. Needs aiohttp 3.12 or newer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import ClientRequest, ClientResponse

from sessionsight.propagation.headers import Propagation

__all__ = ["propagate"]

_Handler = Callable[[ClientRequest], Awaitable[ClientResponse]]


def propagate(*hosts: str) -> Callable[[ClientRequest, _Handler], Awaitable[ClientResponse]]:
    """Return a middleware for a `ClientSession` that adds the current visitor's ids.

    aiohttp calls it for each request that follows a redirect as well, with the headers of the caller.

    Args:
        *hosts: The only hosts that receive the ids, such as `"api.example.com"`, `"api.example.com:8443"`,
            `"*.example.com"` for its subdomains, or `".example.com"` for both.

    Raises:
        ConfigurationError: There is no host, or one of them is not a host.

    Example:
        >>> async def fetch(url: str) -> bytes:
        ...     async with aiohttp.ClientSession(middlewares=[propagate("api.example.com")]) as session:
        ...         async with session.get(url) as response:
        ...             return await response.read()
    """
    propagation = Propagation(hosts)

    async def add_ids(request: ClientRequest, handler: _Handler) -> ClientResponse:
        url, headers = request.url, request.headers
        cookie = headers.get("cookie", "")
        headers.update(propagation.headers(url.scheme, url.raw_host or "", url.port, given=headers, cookie=cookie))
        return await handler(request)

    return add_ids
