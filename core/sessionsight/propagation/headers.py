"""Headers that carry a visitor's ids to another service, as its middleware or the vendors' own SDKs read them.

They are `x-signal-session-id`, `x-signal-window-id` and `x-signal-distinct-id`, and the cookies `ss_sid` and `ss_vid`.
If the visitor has refused consent, no id is passed on, but `Sec-GPC: 1` and the cookie `ss_opted_out`, which
`sessionsight.request.resolve` reads.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable

from sessionsight.capture.current import find_current
from sessionsight.errors import ConfigurationError, describe
from sessionsight.request.context import TrackingContext
from sessionsight.request.hostnames import hostname
from sessionsight.request.resolve import parse_cookies

__all__ = ["Propagation", "propagated_headers"]

# A host, which may be an IPv6 address in brackets and begin with a wildcard, and a port.
_ENTRY = re.compile(
    r"(?P<wildcard>\*?\.)?(?!\.)(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/?#@*\\\[\]]+)(?::(?P<port>[0-9]{1,5}))?", re.ASCII
)
_SENDABLE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def propagated_headers(context: TrackingContext, given: Container[str], cookie: str) -> dict[str, str]:
    """Return the headers to set on a request, so that its receiver resolves the same visitor.

    Headers and cookies that the request has already are kept. An id that is not ASCII, or begins or ends with a
    space, is left out, because HTTP libraries encode it in different ways or reject it.

    Args:
        context: The visitor's context.
        given: The names of the request's headers, found in lower case.
        cookie: The request's Cookie header, empty if it has none.

    Example:
        >>> context = TrackingContext.from_carrier({"ss_sid": "6f1d2c3b", "ss_signal_session_id": "s-1"})
        >>> propagated_headers(context, {"cookie"}, "theme=dark")
        {'x-signal-session-id': 's-1', 'cookie': 'theme=dark; ss_sid=6f1d2c3b'}
    """
    if context.opted_out:
        headers: dict[str, str | None] = {"sec-gpc": "1"}
        cookies: dict[str, str | None] = {"ss_opted_out": "1"}
    else:
        headers = {
            "x-signal-session-id": context.signal.session_id,
            "x-signal-window-id": context.signal.window_id,
            "x-signal-distinct-id": context.signal.distinct_id,
        }
        cookies = {"ss_sid": context.sessionsight.session_id, "ss_vid": context.sessionsight.visitor_id}
    added = {
        name: value for name, value in headers.items() if value and _SENDABLE.fullmatch(value) and name not in given
    }
    present = parse_cookies(cookie)
    pairs = [f"{name}={value}" for name, value in cookies.items() if value and name not in present]
    if pairs:
        added["cookie"] = "; ".join([cookie, *pairs] if cookie else pairs)
    return added


class Propagation:
    """Adds the current visitor's ids to requests to hosts of an allow-list, and to no others.

    Args:
        hosts: Host names or addresses, each with an optional port; without one, every port is allowed.
            `*.example.com` allows the subdomains of a domain, `.example.com` the domain as well.

    Raises:
        ConfigurationError: There is no host, or one of them is not a host.

    Example:
        >>> Propagation(["api.example.com", "*.internal:8443"]).allows("https", "api.example.com", None)
        True
    """

    def __init__(self, hosts: Iterable[str]) -> None:
        self._hosts = tuple(map(_parse, hosts))
        if not self._hosts:
            raise ConfigurationError("propagation needs at least one host that may receive the visitor's ids")

    def allows(self, scheme: str, host: str, port: int | None) -> bool:
        """Return whether a request may carry ids.

        Args:
            scheme: The URL's scheme.
            host: The host that the HTTP library connects to, in ASCII. It is not parsed from the URL again, because
                two parsers may disagree about it.
            port: The URL's port; None is the scheme's own.
        """
        host = host.lower().strip("[]")
        port = port or _DEFAULT_PORTS.get(scheme)
        return any(
            allowed_port in {None, port} and ((exact and host == name) or (suffix and host.endswith(f".{name}")))
            for name, exact, suffix, allowed_port in self._hosts
        )

    def headers(
        self, scheme: str, host: str, port: int | None, *, given: Container[str], cookie: str
    ) -> dict[str, str]:
        """Return the headers to set on a request: none for other hosts, and none outside a request or a `scope`.

        Args:
            scheme: As for `allows`, like the next two.
            host: The host.
            port: The port.
            given: As for `propagated_headers`, like the next one.
            cookie: The request's Cookie header.
        """
        if not self.allows(scheme, host, port) or (analytics := find_current()) is None:
            return {}
        return propagated_headers(analytics.context, given, cookie)


def _parse(entry: str) -> tuple[str, bool, bool, int | None]:
    """Return the host of an entry, whether it and its subdomains are allowed, and the port."""
    given: object = entry
    found = _ENTRY.fullmatch(entry) if isinstance(given, str) else None
    name = hostname(f"http://{found['host']}") if found is not None else ""
    if found is None or not name:
        raise ConfigurationError(
            f"{describe(given)} is not a host that may receive the visitor's ids; write 'api.example.com', "
            "'api.example.com:8443' or '*.example.com', without a scheme or a path"
        )
    wildcard, port = found["wildcard"], found["port"]
    return name.strip("[]"), wildcard != "*.", wildcard is not None, int(port) if port else None
